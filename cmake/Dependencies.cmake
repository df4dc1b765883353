# Every outside library, found once. ONNX's config expects protobuf to be found already, so protobuf comes first.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(ONNX REQUIRED)
find_package(dnnl 3.13 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBZIP REQUIRED IMPORTED_TARGET libzip)

# LAPACK of the scipy-openblas32 package: its own prefix (scipy_) keeps it apart from a system BLAS.
find_path(OPENBLAS_INCLUDE_DIR lapacke.h PATH_SUFFIXES openblas REQUIRED)
find_library(OPENBLAS_LIBRARY scipy_openblas REQUIRED)
# Only its headers are compiled against: the program loads it when it is needed (kernels/linalg_lapack.cpp), by the
# RPATH that every program here gets.
add_library(openblas INTERFACE IMPORTED)
get_filename_component(OPENBLAS_DIR ${OPENBLAS_LIBRARY} DIRECTORY)
set_target_properties(openblas PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES ${OPENBLAS_INCLUDE_DIR}
  INTERFACE_LINK_LIBRARIES "${CMAKE_DL_LIBS}"
  # An older tag than RUNPATH: that would not be looked at when a sanitizer's dlopen stands between.
  INTERFACE_LINK_OPTIONS "LINKER:--disable-new-dtags")
list(APPEND CMAKE_BUILD_RPATH ${OPENBLAS_DIR})
