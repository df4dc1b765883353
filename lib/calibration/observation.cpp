#include "lib/calibration/observation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::calibration {

namespace {

void requireFinite(const ir::Value& value, const Rows& rows) {
    // An exponent of all ones is an infinity or a NaN. Bits are compared because compilers do that for many
    // at once.
    constexpr std::uint32_t kExponent = 0x7f800000;
    std::uint32_t notFinite = 0;
    for (const float x : rows.values) {
        std::uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        notFinite |= (bits & kExponent) == kExponent ? 1U : 0U;
    }
    if (notFinite == 0) return;
    throw PassError(
        fmt::format("value '{}' is not finite on the calibration data; check the data and the model with "
                    "'tcompress eval'",
                    value.name()));
}

exec::ExecutorOptions fromCut(const Stream& stream, Side side) {
    exec::ExecutorOptions options;
    options.inputs = stream.cut(side);
    options.outputs.emplace();
    return options;
}

}  // namespace

Deliveries::Deliveries(const std::vector<Statistic*>& statistics) {
    for (Statistic* statistic : statistics) {
        const std::vector<Source> sources = statistic->sources();
        for (std::size_t i = 0; i < sources.size(); ++i)
            (sources[i].side == Side::edited ? edited_ : original_)[sources[i].value].push_back(
                {waiting_.size(), i});
        waiting_.push_back({statistic, std::vector<std::shared_ptr<ObservedRows>>(sources.size())});
    }
}

bool Deliveries::needs(Side side) const { return !readers(side).empty(); }

std::vector<const ir::Value*> Deliveries::values(Side side) const {
    std::vector<const ir::Value*> result;
    for (const auto& [value, unused] : readers(side)) result.push_back(value);
    return result;
}

const std::vector<Deliveries::Reader>* Deliveries::find(const Source& source) const {
    const auto found = readers(source.side).find(source.value);
    return found == readers(source.side).end() ? nullptr : &found->second;
}

void Deliveries::deliver(const Source& source, const Tensor& tensor, const TokenMask& mask) {
    const auto rows = std::make_shared<ObservedRows>(tensor, mask);
    requireFinite(*source.value, rows->rows());
    const std::vector<Reader>& readers = *find(source);
    const auto anyReader = [&](const auto& holds) {
        return std::any_of(readers.begin(), readers.end(),
                           [&](const Reader& reader) { return holds(waiting_[reader.waiting]); });
    };
    if (anyReader([](const Waiting& waiting) { return waiting.seen.size() > 1; })) rows->own();
    const auto seesPadding = [](const Waiting& waiting) { return waiting.statistic->rowsSeen() == RowsSeen::all; };
    std::shared_ptr<ObservedRows> allRows;
    if (anyReader(seesPadding)) {
        allRows = std::make_shared<ObservedRows>(tensor, TokenMask());
        if (anyReader([&](const Waiting& waiting) { return seesPadding(waiting) && waiting.seen.size() > 1; }))
            allRows->own();
    }
    for (const Reader& reader : readers) {
        Waiting& waiting = waiting_[reader.waiting];
        waiting.seen[reader.position] = seesPadding(waiting) ? allRows : rows;
        if (std::find(waiting.seen.begin(), waiting.seen.end(), nullptr) != waiting.seen.end()) continue;
        std::vector<Rows> values;
        for (const auto& seen : waiting.seen) values.push_back(seen->rows());
        waiting.statistic->add(values);
        std::fill(waiting.seen.begin(), waiting.seen.end(), nullptr);
    }
}

void Deliveries::endBatch() {
    for (Waiting& waiting : waiting_) std::fill(waiting.seen.begin(), waiting.seen.end(), nullptr);
}

ObservedModel::ObservedModel(const Stream& stream, Side side, Deliveries& deliveries)
    : stream_(stream),
      side_(side),
      deliveries_(deliveries),
      executor_(*stream.model(side), fromCut(stream, side), this) {
    for (const ir::Value* value : deliveries.values(side))
        TCOMPRESS_CHECK(stream.model(side)->graph().find(value->name()) == value,
                        "a statistic of a value of another model");
}

void ObservedModel::run(std::size_t batch) {
    const exec::Feeds feeds = stream_.feeds(side_, batch);
    mask_ = stream_.mask(batch);
    executor_.run(feeds);
}

void ObservedModel::observe(const ir::Value& value, const Tensor& tensor) {
    deliveries_.deliver({&value, side_}, tensor, mask_);
}

}  // namespace tcompress::calibration
