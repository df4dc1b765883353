#include <fmt/core.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "lib/data/readers.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"

namespace tcompress::data {
namespace {

// The format's own limit on its JSON header.
constexpr std::uint64_t maxHeaderBytes = 100'000'000;

const std::map<std::string, DType>& typeNames() {
    static const std::map<std::string, DType> names{
        {"F64", DType::float64},       {"F32", DType::float32},
        {"F16", DType::float16},       {"BF16", DType::bfloat16},
        {"I64", DType::int64},         {"I32", DType::int32},
        {"I16", DType::int16},         {"I8", DType::int8},
        {"U64", DType::uint64},        {"U32", DType::uint32},
        {"U16", DType::uint16},        {"U8", DType::uint8},
        {"BOOL", DType::boolean},      {"F8_E4M3", DType::float8e4m3fn},
        {"F8_E5M2", DType::float8e5m2}};
    return names;
}

Tensor readArray(const nlohmann::json& entry, const std::shared_ptr<const MappedFile>& file,
                 std::uint64_t dataBegin, const std::string& what) {
    const auto fail = [&](const std::string& why) { throw DataError(fmt::format("{}: {}", what, why)); };
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets"))
        fail("lacks dtype, shape or data_offsets");
    const auto& typeText = entry["dtype"];
    const auto type =
        typeText.is_string() ? typeNames().find(typeText.get<std::string>()) : typeNames().end();
    if (type == typeNames().end()) fail(fmt::format("type {} is not read", typeText.dump()));
    const auto& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned())
        fail("data_offsets is no pair of positions");
    if (!entry["shape"].is_array() || entry["shape"].size() > 32)
        fail("shape is no list of up to 32 dimensions");

    Shape shape;
    std::uint64_t bytes = static_cast<std::uint64_t>(bitsPerElement(type->second)) / 8;
    for (const auto& dim : entry["shape"]) {
        if (!dim.is_number_unsigned()) fail("shape holds something that is no dimension");
        const auto size = dim.get<std::uint64_t>();
        if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
            __builtin_mul_overflow(bytes, size, &bytes))
            fail("the shape is larger than any memory");
        shape.push_back(static_cast<std::int64_t>(size));
    }
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    const std::uint64_t available = file->bytes().size() - dataBegin;
    if (begin > end || end > available)
        fail(fmt::format("bytes {} to {} lie outside the {} bytes of data", begin, end, available));
    if (end - begin != bytes)
        fail(fmt::format("shape {} needs {} bytes, {} are given", toString(shape), bytes, end - begin));

    const std::byte* data = file->bytes().data() + dataBegin + begin;
    if (type->second != DType::boolean && reinterpret_cast<std::uintptr_t>(data) % 8 == 0)
        return Tensor::share(type->second, std::move(shape), std::shared_ptr<const std::byte>(file, data));
    Tensor tensor(type->second, std::move(shape));
    std::span<std::byte> target = tensor.mutableBytes();
    std::memcpy(target.data(), data, bytes);
    if (type->second == DType::boolean)
        for (std::byte& b : target) b = b == std::byte{0} ? b : std::byte{1};
    return tensor;
}

}  // namespace

Arrays readSafetensors(const std::filesystem::path& path) {
    const auto file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file->bytes();
    if (bytes.size() < 8)
        throw DataError(fmt::format("{}: too short for a .safetensors file", path.string()));
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i)
        length = length << 8 | static_cast<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
    if (length > maxHeaderBytes || length > bytes.size() - 8)
        throw DataError(fmt::format("{}: claims a header of {} bytes, the file has {}", path.string(), length,
                                    bytes.size()));

    const char* text = reinterpret_cast<const char*>(bytes.data() + 8);
    const nlohmann::json header =
        nlohmann::json::parse(text, text + length, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) throw DataError(fmt::format("{}: the header is no JSON object", path.string()));
    Arrays arrays;
    for (const auto& [name, entry] : header.items())
        if (name != "__metadata__")
            arrays.emplace(
                name, readArray(entry, file, 8 + length, fmt::format("{}: array '{}'", path.string(), name)));
    return arrays;
}

}  // namespace tcompress::data
