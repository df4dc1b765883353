#include "passes/prune/affine_refit.h"

#include <fmt/core.h>

#include "lib/calibration/archive.h"
#include "lib/calibration/collector.h"
#include "lib/ir/edit.h"
#include "lib/support/sha256.h"

namespace tcompress::passes {
namespace {

using calibration::Rows;
using calibration::Side;
using calibration::Source;

/// Sums over rows, channel by channel: of a value of the edited model, of what it was, and of their products.
class ChannelLines : public calibration::Statistic {
  public:
    ChannelLines(const ir::Value* now, const ir::Value* before, const std::vector<std::int64_t>& kept)
        : sources_{{now, Side::edited}, {before, Side::original}}, kept_(kept), now_(kept.size()), before_(kept.size()),
          square_(kept.size()), product_(kept.size()) {}

    std::vector<Source> sources() const override { return sources_; }
    void add(std::span<const Rows> rows) override {
        for (std::int64_t r = 0; r < rows[0].rows; ++r) {
            const auto now = rows[0].row(r), before = rows[1].row(r);
            for (std::size_t c = 0; c < kept_.size(); ++c) {
                const double x = now[c], y = before[static_cast<std::size_t>(kept_[c])];
                now_[c] += x;
                before_[c] += y;
                square_[c] += x * x;
                product_[c] += x * y;
            }
        }
        rows_ += static_cast<double>(rows[0].rows);
    }

    std::string kind() const override {
        return fmt::format("channel lines {}", sha256(std::as_bytes(std::span(kept_))));
    }
    void transfer(calibration::Archive& archive) override {
        archive(now_), archive(before_), archive(square_), archive(product_), archive(rows_);
    }

    struct Line {
        double slope = 1, offset = 0;
    };
    /// The line through the origin when there is no bias to move.
    Line line(std::size_t c, bool hasOffset) const {
        if (rows_ == 0) return {};
        const double mean = hasOffset ? now_[c] / rows_ : 0, meanBefore = hasOffset ? before_[c] / rows_ : 0;
        const double variance = square_[c] / rows_ - mean * mean;
        const double covariance = product_[c] / rows_ - mean * meanBefore;
        // A channel that does not move says nothing of its slope.
        const double slope = variance > 1e-9 * square_[c] / rows_ && variance > 0 ? covariance / variance : 1.0;
        return {slope, meanBefore - slope * mean};
    }

  private:
    std::vector<Source> sources_;
    const std::vector<std::int64_t>& kept_;
    std::vector<double> now_, before_, square_, product_;
    double rows_ = 0;
};

}  // namespace

void refitAffine(ir::Model& model, const ir::Model& reference, const AffineSite& site,
                 const std::vector<std::int64_t>& kept, const data::Dataset& samples, const calibration::Environment& environment) {
    const ir::Value* before = reference.graph().find(site.output->name());
    if (before == nullptr) return;
    calibration::Collector collector(reference, model);
    const auto& lines = collector.add<ChannelLines>(site.output, before, kept);
    collector.run(samples, environment.progress, environment.resources);
    ir::Value* const gainValue = site.gainNode->input(site.gainSlot);
    Tensor gain = *gainValue->constant();
    const bool hasBias = site.biasNode != nullptr;
    ir::Value* const biasValue = hasBias ? site.biasNode->input(site.biasSlot) : nullptr;
    Tensor bias = hasBias ? *biasValue->constant() : Tensor();
    for (std::size_t c = 0; c < kept.size(); ++c) {
        const ChannelLines::Line line = lines.line(c, hasBias);
        gain.mutableData<float>()[c] *= static_cast<float>(line.slope);
        if (!hasBias) continue;
        float& value = bias.mutableData<float>()[c];
        value = static_cast<float>(line.slope * value + line.offset);
    }
    ir::Edit edit(model, "affine refit");
    edit.setConstant(gainValue, gain);
    if (hasBias) edit.setConstant(biasValue, bias);
    edit.commit();
}

}  // namespace tcompress::passes
