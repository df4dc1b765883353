// Operators of com.microsoft with operands that do not fit are refused by name, and read nothing beyond them.

#include <fmt/core.h>
#include <catch2/catch.hpp>

#include <sstream>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace {

using namespace tcompress;

struct Refusal {
    std::string node;  ///< reads the input x, float [1, 2, 32], and the constants
    std::string constants;
};

const Refusal kRefusals[] = {
    // Zero points for one row only; no block size; weights of another type; too few scales.
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 16>(x, w, s, z)",
     "uint8[2,2,8] w; float[4] s; uint8[1] z"},
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 16>(x, w, s, z)",
     "uint8[2,2,8] w; float[4] s; float[3] z"},
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 0>(x, w, s)", "uint8[2,2,8] w; float[4] s"},
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 16>(x, w, s)", "int8[2,2,8] w; float[4] s"},
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 16>(x, w, s)", "uint8[2,2,8] w; float[3] s"},
    {"MatMulNBits<K = 32, N = 2, bits = 4, block_size = 16>(x, w, s, , g)",
     "uint8[2,2,8] w; float[4] s; int32[3] g"},
    {"GatherBlockQuantized<bits = 4, block_size = 16, quantize_axis = 1, gather_axis = 0>(w, i, s, z)",
     "uint8[2,8] w; int64[1] i; float[2,1] s; uint8 z"},
    {"GatherBlockQuantized<bits = 4, block_size = 16, quantize_axis = 1, gather_axis = 0>(w, i, s)",
     "uint8[2,8] w; int64[1] i; float[1,1] s"},
    // Sinks, lengths, totals and caches of other counts.
    {"GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(x, k, k, , , l, t, , , , , s)",
     "float[1,2,16] k; int32[1] l = {1}; int32 t = {2}; float[2] s"},
    {"GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(x, k, k, , , l, t)",
     "float[1,2,16] k; int32[2] l = {1, 1}; int32 t = {2}"},
    {"GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(x, k, k, , , l, t)",
     "float[1,2,16] k; int32[1] l = {5}; int32 t = {2}"},
    {"GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(x, k, k, , , l, t)",
     "float[1,2,16] k; int32[1] l = {1}; int32 t = {2000000000}"},
    {"GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(x, k, k, p, v, l, t)",
     "float[1,2,16] k; float[1,2,3,8] p; float[1,2,1,8] v; int32[1] l = {4}; int32 t = {5}"},
    {"GroupQueryAttention<num_heads = 3, kv_num_heads = 2>(x, k, k, , , l, t)",
     "float[1,2,16] k; int32[1] l = {1}; int32 t = {2}"},
    {"MultiHeadAttention<num_heads = 4>(x, x, x, b)", "float[95] b"},
    {"MultiHeadAttention<num_heads = 4>(x, x, x, , m)", "int32[3] m"},
    {"MultiHeadAttention<num_heads = 4>(x)", "int32[3] m"},
    {"MultiHeadAttention<num_heads = 0>(x, x, x)", "int32[3] m"},
    {"QAttention<num_heads = 4>(x)", "int32[3] m"},
    {"QLinearAdd(q, s, z, q)", "uint8[2] q; float s; uint8 z"},
    {"QGemm<transB = 1>(q, s, z, q, s, z, , s, z)", "uint8[2] q; float s; uint8 z"},
    {"FusedMatMul<transBatchA = 1>(x, w)", "float[5,3] w"},
    {"DynamicQuantizeMatMul(x, w, s)", "int8[32,4] w; float[3] s"},
    {"MatMulIntegerToFloat(q, w, s, t, , , b)",
     "uint8[2,32] q; int8[32,4] w; float s; float[4] t; float[3] b"},
};

/// "float[2] s; int32 t = {5}": constants without values are filled with ones.
std::string filled(const std::string& declarations) {
    std::string text;
    std::istringstream parts(declarations);
    for (std::string part; std::getline(parts, part, ';');) {
        if (part.find('=') == std::string::npos) {
            std::int64_t count = 1;
            const std::size_t open = part.find('['), close = part.find(']');
            std::istringstream sizes(open == std::string::npos ? ""
                                                               : part.substr(open + 1, close - open - 1));
            for (std::string size; std::getline(sizes, size, ',');) count *= std::stoll(size);
            part += " = {1";
            for (std::int64_t i = 1; i < count; ++i) part += ",1";
            part += "}";
        }
        text += (text.empty() ? "" : ", ") + part;
    }
    return text;
}

TEST_CASE("Operands of com.microsoft operators that do not fit are refused") {
    Tensor x(DType::float32, {1, 2, 32});
    for (const Refusal& refusal : kRefusals) {
        INFO(refusal.node << " with " << refusal.constants);
        const std::string text = fmt::format(
            "<ir_version: 10, opset_import: [\"\" : 21, \"com.microsoft\" : 1]>\n"
            "agraph (float[1,2,32] x) => (float[a,b] y) <{}> {{ y = com.microsoft.{} }}",
            filled(refusal.constants), refusal.node);
        const ir::Model model = ir::fromText(text);
        for (const exec::Fusion fusion : {exec::Fusion::none, exec::Fusion::full}) {
            std::string told;
            try {
                exec::Executor(model, {fusion}).run({{"x", x}});
            } catch (const InternalError& error) {
                FAIL(error.what());
            } catch (const Error& error) {
                told = error.what();
            }
            CHECK_FALSE(told.empty());
        }
    }
}

}  // namespace
