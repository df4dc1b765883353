#include "passes/distill/learning.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/calibration/batches.h"
#include "passes/distill/batches.h"

namespace tcompress::passes {
namespace {

/// As a share of the largest.
double rateAt(std::int64_t step, std::int64_t steps) {
    const double rising = std::max(1.0, static_cast<double>(steps) / 10), at = static_cast<double>(step) + 1;
    if (at < rising) return at / rising;
    return 0.5 * (1 + std::cos(std::numbers::pi * (at - rising) / (static_cast<double>(steps) + 1 - rising)));
}

}  // namespace

HeldBack::HeldBack(const ir::Model& model, const data::Dataset& samples, Teacher& teacher) : teacher_(teacher) {
    const ShortBatches padding(model, samples);
    const std::int64_t size = calibration::batchSize(samples, model);
    for (std::int64_t begin = 0; begin < samples.sampleCount(); begin += size) {
        Batch& batch = batches_.emplace_back();
        batch.feeds = padding.cut(samples.rows(begin, std::min(samples.sampleCount(), begin + size)));
        batch.targets = teacher.targets(batch.feeds);
    }
}

double HeldBack::error(train::Trainer& trainer) const {
    double sum = 0;
    for (const Batch& batch : batches_) {
        const std::vector<Tensor> values = trainer.values(batch.feeds);
        for (std::size_t i = 0; i < teacher_.outputCount(); ++i)
            sum += train::lossOf(teacher_.terms()[i], values[i], batch.targets.values[i], batch.targets.rowWeights[i]);
    }
    return sum / static_cast<double>(batches_.size());
}

Learnt learn(Course& course, std::int64_t steps, double rate, std::int64_t trials) {
    course.trainer.restart();
    LearningBatches batches(course.model, course.samples, course.batchSize, course.random);
    course.progress.begin(fmt::format("distilling at a rate of {:.2g}", rate), steps);
    Learnt learnt{course.before, 0, {}};
    for (std::int64_t step = 0; step < steps; ++step) {
        const exec::Feeds feeds = batches.next();
        course.trainer.step(feeds, course.teacher.targets(feeds), rate * rateAt(step, steps));
        course.progress.step();
        const bool isTrial = (step + 1) * trials / steps != step * trials / steps;
        if (!isTrial) continue;
        const double error = course.heldBack.error(course.trainer);
        if (error < learnt.error) learnt = {error, step + 1, course.trainer.weights()};
    }
    course.progress.end();
    return learnt;
}

double rateFor(Course& course, std::int64_t steps) {
    constexpr double kFirst = 1e-4, kLowest = 1e-7, kHighest = 1e-2;
    const double factor = std::sqrt(10.0);
    const auto errorAt = [&](double rate) { return learn(course, steps, rate, 1).error; };
    double rate = kFirst, error = errorAt(rate);
    const bool isTooLarge = !(error < course.before);
    while (isTooLarge && !(error < course.before) && rate > 1.01 * kLowest) error = errorAt(rate /= factor);
    while (!isTooLarge && rate * factor < 1.01 * kHighest) {
        const double next = errorAt(rate * factor);
        if (!(next < error)) break;
        rate *= factor;
        error = next;
    }
    return rate;
}

}  // namespace tcompress::passes
