#include "passes/distill/teacher.h"

#include <algorithm>

#include "lib/calibration/token_mask.h"
#include "lib/support/error.h"
#include "lib/tensor/finite.h"
#include "lib/train/gradient.h"
#include "passes/support/layer_runs.h"

namespace tcompress::passes {
namespace {

Shape rowShape(const Shape& shape) {
    Shape rows = shape;
    if (rows.size() > 1) rows.back() = 1;
    return rows;
}

/// `value` float32 of one axis or more in both runs, of one shape.
bool isComparable(const std::string& value, const train::SeenValues& student, const train::SeenValues& teacher) {
    const auto mine = student.find(value), its = teacher.find(value);
    return mine != student.end() && its != teacher.end() && mine->second.dtype == DType::float32 && its->second.dtype == DType::float32 &&
           !mine->second.shape.empty() && mine->second.shape == its->second.shape;
}

}  // namespace

Teacher::Teacher(const ir::Model& teacher, const ir::Model& student, const analysis::TransformerView& view, const TeacherOptions& options,
                 const exec::Feeds& feeds)
    : teacher_(teacher) {
    const train::SeenValues mine = train::seenValues(student, feeds), its = train::seenValues(teacher, feeds);
    const std::vector<LayerSpan> blocks = layerSpans(view, LayerPart::block);
    for (const std::string& output : comparableOutputs(student.graph(), blocks))
        if (isComparable(output, mine, its)) terms_.push_back({output, options.distance, options.temperature});
    if (terms_.empty()) throw PassError("distill: no floating-point output is left that the original model has in the same shape");
    outputCount_ = terms_.size();
    weights_.assign(outputCount_, 1 / static_cast<double>(outputCount_));
    if (options.hidden > 0) {
        for (const LayerSpan& block : blocks) {
            if (block.output == nullptr || block.output->isGraphOutput() || !isComparable(block.output->name(), mine, its)) continue;
            terms_.push_back({block.output->name(), train::Distance::squared});
        }
        const double hidden = options.hidden / static_cast<double>(std::max<std::size_t>(1, terms_.size() - outputCount_));
        weights_.resize(terms_.size(), hidden);
    }
    std::vector<const ir::Value*> values;
    for (const train::LossTerm& term : terms_) values.push_back(teacher_.graph().find(term.value));
    executor_ = std::make_unique<exec::Executor>(teacher_, exec::ExecutorOptions{.outputs = values});
}

train::Targets Teacher::targets(const exec::Feeds& feeds) {
    train::Targets targets{executor_->run(feeds), {}};
    const calibration::TokenMask mask(feeds);
    for (std::size_t i = 0; i < terms_.size(); ++i) {
        Tensor& value = targets.values[i];
        const std::vector<bool> counts = mask.rowsOf(value.shape());
        Tensor& rowWeights = targets.rowWeights.emplace_back(DType::float32, rowShape(value.shape()));
        const std::span<float> weights = rowWeights.mutableData<float>();
        const std::size_t channels = weights.empty() ? 0 : static_cast<std::size_t>(value.size()) / weights.size();
        double size = 0;
        for (std::size_t row = 0; row < weights.size(); ++row) {
            const std::span<float> channel = value.mutableData<float>().subspan(row * channels, channels);
            if (!allFinite(channel)) {
                std::fill(channel.begin(), channel.end(), 0.0F);
            } else if (counts.empty() || counts[row]) {
                weights[row] = 1;
                if (terms_[i].distance == train::Distance::divergence) size += 1;
                else for (const float t : channel) size += static_cast<double>(t) * static_cast<double>(t);
            }
        }
        const auto weight = static_cast<float>(size > 0 ? weights_[i] / size : 0);
        for (float& w : weights) w *= weight;
    }
    return targets;
}

}  // namespace tcompress::passes
