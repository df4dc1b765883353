#include "lib/pipeline/calibration.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "lib/exec/executor.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::pipeline {
namespace {

constexpr std::int64_t kBatch = 16;

/// Which rows of the batch in flight are real tokens.
class TokenMask {
  public:
    void set(const exec::Feeds& feeds) {
        tokens_.clear();
        shape_.clear();
        const auto found = feeds.find("attention_mask");
        if (found == feeds.end() || found->second.rank() != 2 || !isInteger(found->second.dtype())) return;
        shape_ = found->second.shape();
        tokens_ = toInt64(found->second);
    }
    /// One flag per row of a [samples, tokens, …, channels] tensor; all true when the mask does not apply.
    std::vector<bool> rows(const Shape& shape) const {
        const std::int64_t rowCount =
            shape.empty() ? 1 : elementCount(shape) / std::max<std::int64_t>(1, shape.back());
        std::vector<bool> keep(static_cast<std::size_t>(rowCount), true);
        if (shape_.empty() || shape.size() < 3 || shape[0] != shape_[0] || shape[1] != shape_[1]) return keep;
        const std::int64_t rowsPerToken = rowCount / std::max<std::int64_t>(1, shape_[0] * shape_[1]);
        for (std::int64_t row = 0; row < rowCount; ++row)
            keep[static_cast<std::size_t>(row)] = tokens_[static_cast<std::size_t>(row / rowsPerToken)] != 0;
        return keep;
    }

  private:
    Shape shape_;
    std::vector<std::int64_t> tokens_;
};

void runBatches(const ir::Model& model, const data::Dataset& calibration, exec::Observer& observer,
                TokenMask& mask, Progress& progress) {
    const data::Dataset fitted = data::fitToModel(calibration, model);
    exec::Executor executor(model, {}, &observer);
    progress.begin("calibration", fitted.sampleCount());
    for (std::int64_t begin = 0; begin < fitted.sampleCount(); begin += kBatch) {
        const std::int64_t end = std::min(begin + kBatch, fitted.sampleCount());
        const exec::Feeds feeds = fitted.rows(begin, end);
        mask.set(feeds);
        executor.run(feeds);
        progress.step(end - begin);
    }
    progress.end();
}

/// Sums over the rows of one value.
struct Sums {
    std::int64_t rows = 0;
    std::vector<double> absolute, plain, second;

    void add(const Tensor& tensor, const std::vector<bool>& keep, Moments moments) {
        const std::vector<float> values = toFloat32(tensor);
        const std::size_t channels = static_cast<std::size_t>(tensor.shape().back());
        absolute.resize(channels);
        plain.resize(channels);
        std::vector<const float*> kept;
        for (std::size_t row = 0; row < keep.size(); ++row)
            if (keep[row]) kept.push_back(values.data() + row * channels);
        rows += static_cast<std::int64_t>(kept.size());
        for (const float* row : kept)
            for (std::size_t c = 0; c < channels; ++c) {
                absolute[c] += std::fabs(row[c]);
                plain[c] += row[c];
            }
        if (moments == Moments::second) addSecond(kept, channels);
    }

  private:
    /// Each row of the matrix is one piece of work; a batch is summed in float, batches in double.
    void addSecond(const std::vector<const float*>& kept, std::size_t channels) {
        second.resize(channels * channels);
        parallelFor(static_cast<std::int64_t>(channels), [&](std::int64_t i) {
            std::vector<float> sums(channels, 0.0f);
            for (const float* row : kept) {
                const float factor = row[i];
                for (std::size_t j = 0; j < channels; ++j) sums[j] += factor * row[j];
            }
            double* target = second.data() + static_cast<std::size_t>(i) * channels;
            for (std::size_t j = 0; j < channels; ++j) target[j] += sums[j];
        });
    }
};

class ChannelObserver : public exec::Observer {
  public:
    ChannelObserver(const ValueSet& values, Moments moments, const TokenMask& mask)
        : values_(values), moments_(moments), mask_(mask) {}

    bool wants(const ir::Value& value) const override { return values_.contains(&value); }

    void observe(const ir::Value& value, const Tensor& tensor) override {
        if (tensor.rank() == 0 || tensor.size() == 0) return;
        sums_[&value].add(tensor, mask_.rows(tensor.shape()), moments_);
    }

    std::map<const ir::Value*, ChannelStatistics> statistics() const {
        std::map<const ir::Value*, ChannelStatistics> result;
        for (const auto& [value, sums] : sums_) {
            if (sums.rows == 0) continue;
            ChannelStatistics& entry = result[value];
            entry.rows = sums.rows;
            const double scale = 1.0 / static_cast<double>(sums.rows);
            const auto scaled = [&](const std::vector<double>& source) {
                std::vector<double> target(source);
                for (double& element : target) {
                    element *= scale;
                    if (!std::isfinite(element))
                        throw PassError(
                            fmt::format("value '{}' is not finite on the calibration data; check the data "
                                        "and the model with "
                                        "'tcompress eval'",
                                        value->name()));
                }
                return target;
            };
            entry.meanAbsolute = scaled(sums.absolute);
            entry.mean = scaled(sums.plain);
            entry.secondMoment = scaled(sums.second);
        }
        return result;
    }

  private:
    const ValueSet& values_;
    Moments moments_;
    const TokenMask& mask_;
    std::map<const ir::Value*, Sums> sums_;
};

/// Keeps a span's input until its output comes by.
class InfluenceObserver : public exec::Observer {
  public:
    InfluenceObserver(const std::vector<Span>& spans, const TokenMask& mask)
        : spans_(spans), mask_(mask), cosines_(spans.size(), 0.0), rows_(spans.size(), 0) {}

    bool wants(const ir::Value& value) const override {
        return std::any_of(spans_.begin(), spans_.end(),
                           [&](const Span& span) { return span.input == &value || span.output == &value; });
    }

    void observe(const ir::Value& value, const Tensor& tensor) override {
        const std::vector<float> values = toFloat32(tensor);
        for (std::size_t i = 0; i < spans_.size(); ++i)
            if (spans_[i].output == &value)
                addCosines(i, inputs_.at(spans_[i].input), values, tensor.shape());
        inputs_[&value] = values;
    }

    std::vector<double> influence() const {
        std::vector<double> result;
        for (std::size_t i = 0; i < spans_.size(); ++i)
            result.push_back(rows_[i] == 0 ? 0.0 : 1.0 - cosines_[i] / static_cast<double>(rows_[i]));
        return result;
    }

  private:
    void addCosines(std::size_t span, const std::vector<float>& before, const std::vector<float>& after,
                    const Shape& shape) {
        const std::vector<bool> keep = mask_.rows(shape);
        const std::size_t channels = static_cast<std::size_t>(shape.back());
        for (std::size_t row = 0; row < keep.size(); ++row) {
            if (!keep[row]) continue;
            double dot = 0, squaredBefore = 0, squaredAfter = 0;
            for (std::size_t c = row * channels; c < (row + 1) * channels; ++c) {
                dot += static_cast<double>(before[c]) * after[c];
                squaredBefore += static_cast<double>(before[c]) * before[c];
                squaredAfter += static_cast<double>(after[c]) * after[c];
            }
            const double norm = std::sqrt(squaredBefore * squaredAfter);
            cosines_[span] += norm > 0 ? dot / norm : 1.0;
            ++rows_[span];
        }
    }

    const std::vector<Span>& spans_;
    const TokenMask& mask_;
    std::vector<double> cosines_;
    std::vector<std::int64_t> rows_;
    std::map<const ir::Value*, std::vector<float>> inputs_;
};

}  // namespace

std::map<const ir::Value*, ChannelStatistics> collectChannelStatistics(const ir::Model& model,
                                                                       const data::Dataset& calibration,
                                                                       const ValueSet& values,
                                                                       Moments moments, Progress& progress) {
    TokenMask mask;
    ChannelObserver observer(values, moments, mask);
    runBatches(model, calibration, observer, mask, progress);
    return observer.statistics();
}

std::vector<double> blockInfluence(const ir::Model& model, const data::Dataset& calibration,
                                   const std::vector<Span>& spans, Progress& progress) {
    TokenMask mask;
    InfluenceObserver observer(spans, mask);
    runBatches(model, calibration, observer, mask, progress);
    return observer.influence();
}

}  // namespace tcompress::pipeline
