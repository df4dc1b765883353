#include "passes/quantize/int8/equalization.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "lib/ir/edit.h"
#include "passes/support/scaling_paths.h"

namespace tcompress::passes {
namespace {

using analysis::Site;

/// Steps through a matrix by rows of one of its axes.
struct Lines {
    std::size_t count, length, lineStride, step;
};
Lines linesOf(const Shape& shape, std::size_t axis) {
    const auto rows = static_cast<std::size_t>(shape[0]), columns = static_cast<std::size_t>(shape[1]);
    return axis == 0 ? Lines{rows, columns, columns, 1} : Lines{columns, rows, 1, columns};
}

std::vector<float> largest(const Tensor& matrix, std::size_t axis) {
    const Lines lines = linesOf(matrix.shape(), axis);
    const auto values = matrix.data<float>();
    std::vector<float> result(lines.count, 0.0F);
    for (std::size_t line = 0; line < lines.count; ++line)
        for (std::size_t i = 0; i < lines.length; ++i)
            result[line] = std::max(result[line], std::fabs(values[line * lines.lineStride + i * lines.step]));
    return result;
}

void scale(Tensor& matrix, std::size_t axis, const std::vector<float>& factors) {
    const Lines lines = linesOf(matrix.shape(), axis);
    const auto values = matrix.mutableData<float>();
    for (std::size_t line = 0; line < lines.count; ++line)
        for (std::size_t i = 0; i < lines.length; ++i) values[line * lines.lineStride + i * lines.step] *= factors[line];
}

void equalize(ir::Edit& edit, const ScalingPath& path, Tensor& first, Tensor& second) {
    const std::vector<float> made = largest(first, path.producer->outAxis);
    const std::vector<float> inputs = largest(second, path.consumer->inAxis);
    std::vector<float> read(made.size(), 0.0F);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        float& reach = read[static_cast<std::size_t>(path.channels[i])];
        reach = std::max(reach, inputs[i]);
    }
    std::vector<float> inverse(made.size(), 1.0F), factors;
    for (std::size_t j = 0; j < made.size(); ++j) {
        const float ratio = std::sqrt(read[j] / made[j]);
        // A channel that is all zeros on one side has nothing to equalise; nor has one that is not finite.
        if (std::isnormal(ratio)) inverse[j] = ratio;
    }
    for (const std::int64_t channel : path.channels)
        factors.push_back(1.0F / inverse[static_cast<std::size_t>(channel)]);
    scale(first, path.producer->outAxis, inverse);
    scale(second, path.consumer->inAxis, factors);
    if (ir::Value* bias = path.producer->bias) {
        Tensor scaled = *bias->constant();
        const auto values = scaled.mutableData<float>();
        for (std::size_t j = 0; j < values.size(); ++j) values[j] *= inverse[j];
        edit.setConstant(bias, scaled);
    }
}

}  // namespace

std::size_t equalizeLayers(ir::Model& model, const analysis::TransformerView& view, std::string_view pass) {
    const std::vector<ScalingPath> paths = scalingPaths(view);
    ir::Edit edit(model, std::string(pass));
    std::map<ir::Value*, Tensor> weights;  // a layer may be between two others
    const auto weightOf = [&](const Site& site) -> Tensor& {
        return weights.try_emplace(site.weight, *site.weight->constant()).first->second;
    };
    for (const ScalingPath& path : paths) equalize(edit, path, weightOf(*path.producer), weightOf(*path.consumer));
    for (const auto& [value, tensor] : weights) edit.setConstant(value, tensor);
    edit.commit();
    return paths.size();
}

}  // namespace tcompress::passes
