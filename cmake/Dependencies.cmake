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
add_library(openblas SHARED IMPORTED)
set_target_properties(openblas PROPERTIES
  IMPORTED_LOCATION ${OPENBLAS_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${OPENBLAS_INCLUDE_DIR})
