// Packed codes come back as they were, whole and row by row, here and in ONNX Runtime.

#include "passes/quantize/storage/packed_codes.h"

#include <catch2/catch.hpp>

#include "lib/support/random.h"
#include "tests/support/judge.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using passes::PackedCodes;

TEST_CASE("A code is cut into the widest fields") {
    CHECK(passes::planeWidths(1) == std::vector<int>{1});
    CHECK(passes::planeWidths(3) == std::vector<int>{2, 1});
    CHECK(passes::planeWidths(7) == std::vector<int>{4, 2, 1});
    CHECK(passes::planeWidths(10) == std::vector<int>{8, 2});
    CHECK(passes::planeWidths(16) == std::vector<int>{8, 8});
}

TEST_CASE("Packed codes come back as they were") {
    const int bits = GENERATE(range(0, 17));
    const auto packing = bits == 0 ? passes::Packing::trits : passes::Packing::fields;
    const std::int64_t entries = GENERATE(1, 7, 8, 33);
    constexpr std::int64_t kRows = 5;
    ir::Model model = ir::fromText(R"(
        <ir_version: 8, opset_import: ["" : 13]>
        g (int64[A,B] ids) => (float[R,E] whole, float[A,B,E] rows)
        <float a = {0}>
        {
            whole = Identity(a)
            rows = Gather(a, ids)
        })");
    Random random(3, "codes");
    std::vector<std::uint16_t> codes;
    for (std::int64_t i = 0; i < kRows * entries; ++i)
        codes.push_back(static_cast<std::uint16_t>(random.below(bits == 0 ? 3 : std::uint64_t{1} << bits)));
    ir::Edit edit(model, "test");
    PackedCodes packed(edit, "codes", bits == 0 ? 2 : bits, codes, kRows, packing);
    edit.replaceAllUses(model.graph().find("whole"), packed.all());
    ir::Value* rows = packed.rows(model.graph().find("ids"), 2);
    edit.replaceAllUses(model.graph().find("rows"), rows);
    std::size_t bytes = 0;
    const std::int64_t padded = packed.entries();
    edit.commit();
    for (const ir::Value* value : model.graph().initializers())
        if (value->dtype() == DType::uint8 && value->constant()->rank() == 2)
            bytes += value->constant()->sizeBytes();
    CHECK(static_cast<std::int64_t>(bytes) == PackedCodes::sizeBytes(bits, kRows, entries, packing));
    CHECK(static_cast<std::int64_t>(bytes) == kRows * padded * (bits == 0 ? 8 : 5 * bits) / 40);

    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({1, 3}, {4, 0, 2})}};
    const auto check = [&](const std::vector<Tensor>& outputs) {
        REQUIRE(outputs[0].shape() == Shape{kRows, padded});
        REQUIRE(outputs[1].shape() == Shape{1, 3, padded});
        const std::vector<std::int64_t> order{4, 0, 2};
        for (std::int64_t i = 0; i < entries; ++i) {
            for (std::int64_t row = 0; row < kRows; ++row)
                REQUIRE(outputs[0].data<float>()[static_cast<std::size_t>(row * padded + i)] ==
                        codes[static_cast<std::size_t>(row * entries + i)]);
            for (std::size_t k = 0; k < order.size(); ++k)
                REQUIRE(outputs[1].data<float>()[k * static_cast<std::size_t>(padded) +
                                                 static_cast<std::size_t>(i)] ==
                        codes[static_cast<std::size_t>(order[k] * entries + i)]);
        }
    };
    check(test::outputsOf(model, feeds));
    if (test::haveJudge() && entries == 33) check(test::runtimeOutputsOf(model, feeds));
}
