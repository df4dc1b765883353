#include "tests/unit/passes/zoo_samples.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "tests/unit/passes/weight_models.h"

namespace tcompress::test {

data::Dataset samplesOf(const std::string& name, std::int64_t begin, std::int64_t end) {
    const data::Dataset whole =
        data::readDataset(std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo" / (name + ".npz"));
    return {whole.rows(begin, end), std::nullopt, whole.origin()};
}

data::Dataset behindEncoder(const data::Dataset& samples) {
    const ir::Model encoder = dataModel("t5_char_encoder");
    const data::Dataset read = data::fitToModel(samples, encoder);
    return {{{"input_ids", samples.arrays().at("decoder_input_ids")},
             {"encoder_attention_mask", samples.arrays().at("attention_mask")},
             {"encoder_hidden_states", outputsOf(encoder, read.rows(0, read.sampleCount())).front()}},
            std::nullopt,
            samples.origin()};
}

double outputError(const ir::Model& original, const ir::Model& compressed, const data::Dataset& samples) {
    const auto outputs = [&](const ir::Model& model) {
        const data::Dataset fitted = data::fitToModel(samples, model);
        return toFloat32(outputsOf(model, fitted.rows(0, fitted.sampleCount())).front());
    };
    const std::vector<float> a = outputs(original), b = outputs(compressed);
    REQUIRE(a.size() == b.size());
    double error = 0, square = 0, sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a[i]) - b[i], 2);
        square += std::pow(static_cast<double>(a[i]), 2);
        sum += a[i];
    }
    return error / (square - sum * sum / static_cast<double>(a.size()));
}

}  // namespace tcompress::test
