#include "lib/calibration/moments.h"

#include <fmt/core.h>

#include <algorithm>

#include "kernels/gram.h"
#include "lib/calibration/archive.h"
#include "lib/calibration/collector.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::calibration {

namespace {

constexpr std::int64_t kChannelsOfATask = 64;

/// Y in float32, summed in double.
std::vector<float> targetValues(const Target& target, std::span<const Rows> sources) {
    std::vector<float> values(sources[0].values.size());
    parallelRanges(
        static_cast<std::int64_t>(values.size()), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
                double sum = 0;
                for (std::size_t term = 0; term < target.size(); ++term)
                    sum += target[term].coefficient * static_cast<double>(sources[term].values[i]);
                values[i] = static_cast<float>(sum);
            }
        });
    return values;
}

/// sums[c] += Σ x, squares[c] += Σ x² (squares may be empty).
void addColumns(std::span<const float> values, std::int64_t rows, std::int64_t channels,
                std::span<double> sums, std::span<double> squares) {
    parallelRanges(channels, kChannelsOfATask, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t c = begin; c < end; ++c) {
                const double x = values[static_cast<std::size_t>(row * channels + c)];
                sums[static_cast<std::size_t>(c)] += x;
                if (!squares.empty()) squares[static_cast<std::size_t>(c)] += x * x;
            }
    });
}

template <class Run>
std::vector<Moments> collected(Collector& collector, const std::vector<MomentsRequest>& requests, Run run) {
    std::vector<MomentSums*> sums;
    for (const MomentsRequest& request : requests) sums.push_back(&collector.add<MomentSums>(request));
    run();
    std::vector<Moments> result;
    for (MomentSums* sum : sums) result.push_back(sum->take());
    return result;
}

void addTo(std::vector<double>& sums, const std::vector<double>& more) {
    if (sums.empty()) sums.resize(more.size());
    TCOMPRESS_CHECK(sums.size() == more.size(), "moments of different sizes do not add up");
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
}

}  // namespace

MomentSums::MomentSums(MomentsRequest request) : request_(std::move(request)) {
    moments_.targets.resize(request_.targets.size());
    for (const Target& target : request_.targets) TCOMPRESS_CHECK(!target.empty(), "a target without terms");
}

std::vector<Source> MomentSums::sources() const {
    std::vector<Source> sources{request_.x};
    for (const Target& target : request_.targets)
        for (const Term& term : target) sources.push_back(term.source);
    return sources;
}

void MomentSums::add(std::span<const Rows> sources) {
    const Rows& x = sources[0];
    if (x.rows == 0) return;
    moments_.rows += x.rows;
    moments_.inputs = x.channels;
    moments_.sum.resize(static_cast<std::size_t>(x.channels));
    moments_.gram.resize(static_cast<std::size_t>(x.channels * x.channels));
    addColumns(x.values, x.rows, x.channels, moments_.sum, {});
    kernels::accumulateGram(x.values, x.rows, x.channels, moments_.gram);
    std::size_t used = 1;
    for (std::size_t t = 0; t < request_.targets.size(); ++t) {
        const Target& target = request_.targets[t];
        const std::span<const Rows> terms = sources.subspan(used, target.size());
        used += target.size();
        for (const Rows& term : terms)
            TCOMPRESS_CHECK(term.rows == x.rows && term.channels == terms[0].channels,
                            "the terms of a target have one shape, with the rows of X");
        const std::vector<float> y = targetValues(target, terms);
        Moments::Cross& cross = moments_.targets[t];
        const std::int64_t m = cross.outputs = terms[0].channels;
        cross.sum.resize(static_cast<std::size_t>(m));
        cross.squares.resize(static_cast<std::size_t>(m));
        cross.product.resize(static_cast<std::size_t>(x.channels * m));
        addColumns(y, x.rows, m, cross.sum, cross.squares);
        kernels::accumulateCross(x.values, y, x.rows, x.channels, m, cross.product);
    }
}

std::string MomentSums::kind() const {
    std::string kind = "moments";
    for (const Target& target : request_.targets) {
        kind += " with a target of";
        for (const Term& term : target) kind += fmt::format(" {}", term.coefficient);
    }
    return kind;
}

void MomentSums::transfer(Archive& archive) {
    archive(moments_.rows), archive(moments_.inputs), archive(moments_.sum);
    archive.symmetric(moments_.gram, moments_.inputs);
    for (Moments::Cross& cross : moments_.targets)
        archive(cross.outputs), archive(cross.sum), archive(cross.squares), archive(cross.product);
}

Moments& Moments::operator+=(const Moments& other) {
    if (other.rows == 0) return *this;
    if (rows == 0) return *this = other;
    TCOMPRESS_CHECK(inputs == other.inputs && targets.size() == other.targets.size(),
                    "moments of different requests do not add up");
    rows += other.rows;
    addTo(sum, other.sum);
    addTo(gram, other.gram);
    for (std::size_t t = 0; t < targets.size(); ++t) {
        addTo(targets[t].sum, other.targets[t].sum);
        addTo(targets[t].squares, other.targets[t].squares);
        addTo(targets[t].product, other.targets[t].product);
    }
    return *this;
}

std::vector<Moments> collectMoments(Stream& stream, const std::vector<MomentsRequest>& requests,
                                    Progress& progress) {
    Collector collector(stream);
    return collected(collector, requests, [&] { collector.run(stream, progress); });
}

std::vector<SplitMoments> collectMoments(const ir::Model& original, const ir::Model& edited,
                                         const std::vector<MomentsRequest>& requests,
                                         const data::Split& split, Progress& progress,
                                         const Resources& resources) {
    const auto momentsOf = [&](const data::Dataset& part) {
        Collector collector(original, edited);
        return collected(collector, requests, [&] { collector.run(part, progress, resources); });
    };
    std::vector<Moments> fit = momentsOf(split.fit), heldBack = momentsOf(split.heldBack);
    std::vector<SplitMoments> result;
    for (std::size_t i = 0; i < requests.size(); ++i)
        result.push_back({std::move(fit[i]), std::move(heldBack[i])});
    return result;
}

}  // namespace tcompress::calibration
