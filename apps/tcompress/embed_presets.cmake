# cmake -DCONFIGS=a.json;b.json -DOUTPUT=embedded_presets.cpp -P embed_presets.cmake
# Writes the pipeline files as C++ string literals.
set(rows "")
foreach(file IN LISTS CONFIGS)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  string(APPEND rows "    {\"${name}\", R\"json(${text})json\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"apps/tcompress/presets.h\"

namespace tcompress::cli {

std::span<const Preset> presets() {
    static constexpr Preset list[] = {
${rows}    };
    return list;
}

}  // namespace tcompress::cli
")
