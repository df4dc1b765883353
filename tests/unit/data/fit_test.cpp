#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace tcompress::data {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const fs::path models = fs::path(TCOMPRESS_TEST_DATA) / "models";
const fs::path zooData = fs::path(TCOMPRESS_TEST_DATA) / "zoo";

ir::Model modelWithInputs(const std::string& inputs) {
    return ir::fromText("<ir_version: 8, opset_import: [\"\" : 17]>\nm (" + inputs +
                        ") => (float[1] out) { out = Constant <value = float[1] {0}> () }");
}

Dataset dataset(std::map<std::string, Tensor> arrays) {
    return Dataset(std::move(arrays), std::nullopt, "d.npz");
}

TEST_CASE("fit: integers become the input's integers, and must fit", "[data]") {
    const ir::Model model = modelWithInputs("int32[n, t] ids");
    const Dataset fitted = fitToModel(dataset({{"ids", Tensor::of<std::int64_t>({1, 2}, {5, -7})}}), model);
    CHECK(fitted.arrays().at("ids").dtype() == DType::int32);
    CHECK(toInt64(fitted.arrays().at("ids")) == std::vector<std::int64_t>{5, -7});
    CHECK_THROWS_WITH(fitToModel(dataset({{"ids", Tensor::of<std::int64_t>({1, 1}, {1ll << 33})}}), model),
                      Contains("its value 8589934592 does not fit int32"));
    CHECK_THROWS_WITH(
        fitToModel(dataset({{"ids", Tensor(DType::float32, {1, 2})}}), model),
        Contains("d.npz: input 'ids': the model wants int32 [n, t], the file has float32 [1, 2]"));
}

TEST_CASE("fit: floats become the input's floats; pixels of integers are not guessed", "[data]") {
    const ir::Model model = modelWithInputs("float[n, 2] x");
    const Dataset fitted = fitToModel(dataset({{"x", Tensor::of<double>({1, 2}, {0.5, 2})}}), model);
    CHECK(toFloat32(fitted.arrays().at("x")) == std::vector<float>{0.5f, 2});
    CHECK(fitted.arrays().at("x").dtype() == DType::float32);
    CHECK_THROWS_WITH(fitToModel(dataset({{"x", Tensor(DType::uint8, {1, 2})}}), model),
                      Contains("convert it as the model"));
    CHECK_THROWS_WITH(fitToModel(dataset({{"x", Tensor(DType::float32, {1, 3})}}), model),
                      Contains("wants float32 [n, 2], the file has float32 [1, 3]"));
    CHECK_THROWS_WITH(fitToModel(dataset({{"x", Tensor(DType::float32, {1})}}), model),
                      Contains("the file has float32 [1]"));
}

TEST_CASE("fit: what is missing and cannot be made names what the file has", "[data]") {
    const ir::Model model = modelWithInputs("int64[n, t] input_ids");
    CHECK_THROWS_WITH(
        fitToModel(dataset({{"a", Tensor(DType::float32, {2, 3})}, {"b", Tensor(DType::int64, {2})}}), model),
        Contains("input 'input_ids': the model wants int64 [n, t], the file has only 'a' float32 [2, 3], 'b' "
                 "int64 [2]"));
}

TEST_CASE("fit: a lone array and numbered arrays find their inputs", "[data]") {
    CHECK(
        fitToModel(dataset({{"anything", Tensor(DType::float32, {2, 3})}}), modelWithInputs("float[n, 3] x"))
            .arrays()
            .contains("x"));
    const Dataset two = fitToModel(
        dataset({{"input_0", Tensor(DType::float32, {2, 3})}, {"input_1", Tensor(DType::int64, {2})}}),
        modelWithInputs("float[n, 3] x, int64[n] y"));
    CHECK(two.arrays().at("y").dtype() == DType::int64);
}

TEST_CASE("fit: inputs that can be derived are made", "[data]") {
    const ir::Model model = modelWithInputs(
        "int64[n, t] input_ids, int64[n, t] attention_mask, int64[n, t] token_type_ids, int64[n, t] "
        "position_ids");
    const Dataset fitted = fitToModel(dataset({{"input_ids", Tensor(DType::int64, {2, 3})}}), model);
    CHECK(toInt64(fitted.arrays().at("attention_mask")) == std::vector<std::int64_t>(6, 1));
    CHECK(toInt64(fitted.arrays().at("token_type_ids")) == std::vector<std::int64_t>(6, 0));
    CHECK(toInt64(fitted.arrays().at("position_ids")) == std::vector<std::int64_t>{0, 1, 2, 0, 1, 2});
}

TEST_CASE("fit: an empty key/value cache, or the one of the file", "[data]") {
    const ir::Model model = modelWithInputs(
        "int64[n, t] input_ids, int64[n, total] attention_mask, int64[n, t] position_ids, float[n, 4, past, "
        "16] past_key_values_0_key");
    const Tensor ids(DType::int64, {2, 3});
    const Dataset empty = fitToModel(dataset({{"input_ids", ids}}), model);
    CHECK(empty.arrays().at("past_key_values_0_key").shape() == Shape{2, 4, 0, 16});
    CHECK(empty.arrays().at("attention_mask").shape() == Shape{2, 3});
    const Dataset filled = fitToModel(
        dataset({{"input_ids", ids}, {"past_key_values_0_key", Tensor(DType::float32, {2, 4, 5, 16})}}),
        model);
    CHECK(filled.arrays().at("attention_mask").shape() == Shape{2, 8});
    CHECK(toInt64(filled.arrays().at("position_ids")) == std::vector<std::int64_t>{5, 6, 7, 5, 6, 7});
    CHECK(filled.rows(1, 2).at("past_key_values_0_key").shape() == Shape{1, 4, 5, 16});
    CHECK(empty.rows(1, 2).at("past_key_values_0_key").shape() == Shape{1, 4, 0, 16});
    // Of a model with fewer heads: an empty cache is made anew, a filled one is not for it.
    const ir::Model fewer = modelWithInputs("int64[n, t] input_ids, float[n, 3, past, 16] past_key_values_0_key");
    CHECK(fitToModel(empty, fewer).arrays().at("past_key_values_0_key").shape() == Shape{2, 3, 0, 16});
    CHECK_THROWS_WITH(fitToModel(filled, fewer), Contains("the model wants float32 [n, 3, past, 16]"));
}

TEST_CASE("fit: dimensions of one name have one size", "[data]") {
    const ir::Model model = modelWithInputs("int64[n, t] input_ids, int64[n, t] attention_mask");
    CHECK_THROWS_WITH(fitToModel(dataset({{"input_ids", Tensor(DType::int64, {2, 3})},
                                          {"attention_mask", Tensor(DType::int64, {2, 4})}}),
                                 model),
                      Contains("one size for dimension 't', the file has 3 and 4"));
}

TEST_CASE("fit: data of the zoo fit its models, others are refused", "[data]") {
    const Dataset chars = readDataset(zooData / "fortunes_char_test.npz");
    CHECK(fitToModel(chars, ir::load(models / "gpt2_char.onnx")).arrays().size() == 1);
    const Dataset cached = fitToModel(chars, ir::load(models / "llama_char_kv.onnx"));
    CHECK(cached.arrays().size() == 2 + 2 * 6);
    CHECK(cached.labels()->shape() == Shape{937, 64});
    const ir::Model tiny = ir::load(models / "bert_tiny.onnx");
    CHECK_THROWS_WITH(fitToModel(readDataset(zooData / "sentences_train.npz"), tiny),
                      Contains("'input_ids': holds") && Contains("the model's table has 100 rows"));
    CHECK(fitToModel(chars, tiny).arrays().contains("token_type_ids"));
    CHECK_THROWS_WITH(fitToModel(chars, ir::load(models / "vit_digits.onnx")),
                      Contains("'pixel_values'") && Contains("float32 [batch, 1, 8, 8]"));
}

TEST_CASE("fit: a fixed first axis is a batch size", "[data]") {
    CHECK(fixedBatchSize(modelWithInputs("float[4, 3] x")) == 4);
    CHECK(fixedBatchSize(modelWithInputs("float[n, 3] x")) == 0);
}

TEST_CASE("synthetic data: valid indices, the same for the same seed", "[data]") {
    const ir::Model gpt2 = ir::load(models / "gpt2_char.onnx");
    const Dataset ids = syntheticDataset(gpt2, 50, 7, {{"seq", 9}});
    CHECK(ids.arrays().at("input_ids").shape() == Shape{50, 9});
    for (const std::int64_t id : toInt64(ids.arrays().at("input_ids"))) {
        CHECK(id >= 1);
        CHECK(id < 96);  // rows of the embedding table
    }
    CHECK(toInt64(syntheticDataset(gpt2, 50, 7, {{"seq", 9}}).arrays().at("input_ids")) ==
          toInt64(ids.arrays().at("input_ids")));
    CHECK(toInt64(syntheticDataset(gpt2, 50, 8, {{"seq", 9}}).arrays().at("input_ids")) !=
          toInt64(ids.arrays().at("input_ids")));

    const Dataset cached = syntheticDataset(ir::load(models / "gpt2_char_kv.onnx"), 2, 1);
    CHECK(cached.arrays().at("past_key_values.0.key").shape() == Shape{2, 4, 0, 16});
    CHECK(toInt64(cached.arrays().at("attention_mask")) == std::vector<std::int64_t>(128, 1));
    CHECK(syntheticDataset(ir::load(models / "vit_digits.onnx"), 3, 1).arrays().at("pixel_values").shape() ==
          Shape{3, 1, 8, 8});
}

}  // namespace
}  // namespace tcompress::data
