#include "passes/quantize/floating/half_range.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "lib/calibration/stream.h"
#include "lib/exec/executor.h"

namespace tcompress::passes {
namespace {

constexpr float kMask = 1e8F;
/// Calibration data do not hold the largest value there is.
constexpr float kSafety = 0.5F;
/// Rounding costs a normal number 2⁻¹² of its size; what is off by more than this was lost.
constexpr double kMostLoss = 0x1p-8;

/// What float16 makes of the values of one place.
struct HalfLoss {
    float largest = 0;
    double lost = 0, all = 0;

    void add(const Tensor& tensor) {
        const std::vector<float> halves = toFloat32(convert(tensor, DType::float16));
        const auto values = tensor.data<float>();
        float most = 0;
        double lostHere = 0, allHere = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const float magnitude = std::fabs(values[i]);
            if (!(magnitude < kMask)) continue;
            most = std::max(most, magnitude);
            if (magnitude > kLargestHalf) continue;
            const double error = static_cast<double>(halves[i]) - values[i];
            lostHere += error * error;
            allHere += static_cast<double>(values[i]) * values[i];
        }
        largest = std::max(largest, most);
        lost += lostHere;
        all += allHere;
    }

    std::string problem(float limit) const {
        if (largest > limit)
            return fmt::format("reaches {:.6g}, and float16 ends at {:.0f}", largest, kLargestHalf);
        if (all > 0 && std::sqrt(lost / all) > kMostLoss)
            return fmt::format("holds {:.3g} at most, and float16 would lose {:.1f} % of it", largest,
                               100 * std::sqrt(lost / all));
        return {};
    }
};

class HalfObserver : public exec::Observer {
  public:
    bool wants(const ir::Value& value) const override { return value.dtype() == DType::float32; }
    void observe(const ir::Value& value, const Tensor& tensor) override { losses_[&value].add(tensor); }

    const std::map<const ir::Value*, HalfLoss>& losses() const { return losses_; }

  private:
    std::map<const ir::Value*, HalfLoss> losses_;
};

}  // namespace

HalfRange::HalfRange(const ir::Model& model, const pipeline::PassContext& context, const std::string& pass) {
    const calibration::Stream stream = context.stream(
        model, context.calibration(pass, "values that float16 cannot hold are found by running the model"));
    HalfObserver observer;
    exec::Executor executor(model, {}, &observer);
    context.progress().begin("calibrating", static_cast<std::int64_t>(stream.batchCount()));
    for (std::size_t batch = 0; batch < stream.batchCount(); ++batch) {
        const exec::Feeds feeds = stream.feeds(calibration::Side::edited, batch);
        for (const auto& [name, tensor] : feeds)
            if (const ir::Value* input = model.graph().find(name);
                input != nullptr && observer.wants(*input) && tensor.dtype() == DType::float32)
                observer.observe(*input, tensor);
        executor.run(feeds);
        context.progress().step();
    }
    context.progress().end();
    for (const auto& [value, loss] : observer.losses())
        if (std::string problem = loss.problem(kLargestHalf * kSafety); !problem.empty())
            problems_.emplace(value, std::move(problem));
}

const std::string& HalfRange::problem(const ir::Value* value) const {
    static const std::string none;
    const auto found = problems_.find(value);
    return found == problems_.end() ? none : found->second;
}

std::string halfProblem(const Tensor& tensor) {
    const bool isNumber = tensor.size() == 1;
    for (const float value : tensor.data<float>())
        if (std::fabs(value) > kLargestHalf && !(isNumber && std::fabs(value) >= kMask))
            return fmt::format("holds {}, and float16 ends at {:.0f}", value, kLargestHalf);
    if (isNumber) return {};  // small ones are as good as 0 wherever they are added
    HalfLoss loss;
    loss.add(tensor);
    return loss.problem(kLargestHalf);
}

}  // namespace tcompress::passes
