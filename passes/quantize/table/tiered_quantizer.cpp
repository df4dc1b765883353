#include "passes/quantize/table/tiered_quantizer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "lib/tensor/finite.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/storage/codebook_storage.h"
#include "passes/quantize/storage/quantized_table.h"
#include "passes/quantize/table/row_usage.h"
#include "passes/quantize/table/tiered_table.h"

namespace tcompress::passes {
namespace {

/// Rows that formats are measured on.
constexpr std::int64_t kMeasuredRows = 2048;
constexpr std::int64_t kMeasuringIterations = 6;
constexpr std::int64_t kMeasuringSamples = 1 << 15;

constexpr TableFormat kFormats[] = {{8, 0, 0},    {6, 0, 0},    {5, 0, 0},   {4, 0, 0},
                                    {3, 0, 0},    {2, 0, 0},    {0, 4, 1024}, {0, 4, 256},
                                    {0, 8, 4096}, {0, 8, 1024}, {0, 8, 256}};

QuantizationRule ruleFor(int bits) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = Symmetry::asymmetric;
    rule.range = bits < 8 ? RangeChoice::mse : RangeChoice::minmax;
    rule.scaleType = DType::float16;
    return rule;
}

double energyOf(std::span<const float> row) {
    double sum = 0;
    for (const float value : row) sum += static_cast<double>(value) * value;
    return sum;
}

}  // namespace

std::span<const TableFormat> tableFormats() { return kFormats; }

std::string TableFormat::describe() const {
    return dimension == 0 ? fmt::format("{} bits", bits)
                          : fmt::format("codebook of {} × {}", size, dimension);
}

std::vector<float> EncodedTable::decoded(std::int64_t length) const {
    std::vector<float> values(order.size() * static_cast<std::size_t>(length));
    auto place = order.begin();
    for (const Part& part : parts) {
        std::vector<float> rows;
        if (part.integers) {
            rows = dequantizeWeights(*part.integers);
        } else {
            for (const std::uint16_t number : part.numbers) {
                const auto entry = part.codebook.entries.begin() + number * part.codebook.dimension;
                rows.insert(rows.end(), entry, entry + part.codebook.dimension);
            }
        }
        for (std::int64_t row = 0; row < part.rows; ++row, ++place)
            std::copy_n(rows.begin() + row * length, length, values.begin() + *place * length);
    }
    return values;
}

TieredQuantizer::TieredQuantizer(const pipeline::PassContext& context, const TargetWeight& weight,
                                 std::vector<double> usage, std::span<const TableFormat> formats)
    : context_(context),
      name_(weight.constant->name()),
      table_(weight.constant->constant()->data<float>()),
      rows_(weight.constant->constant()->shape()[0]),
      length_(weight.constant->constant()->shape()[1]),
      usage_(std::move(usage)),
      energies_(rowEnergies(*weight.constant->constant())) {
    sortRows();
    for (const TableFormat& format : formats) {
        if (format.dimension > 0 && (length_ % format.dimension != 0 || format.size > rows_)) continue;
        formats_.push_back(format);
        measured_.push_back(measured(format));
    }
}

TieredQuantizer TieredQuantizer::usedBy(std::vector<double> usage) const {
    TieredQuantizer other = *this;
    other.usage_ = std::move(usage);
    other.sortRows();
    return other;
}

/// Rows whose error costs most come first.
void TieredQuantizer::sortRows() {
    std::vector<double> costs = energies_;
    for (std::size_t i = 0; i < costs.size(); ++i) costs[i] *= usage_[i];
    order_.resize(costs.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) {
        return costs[static_cast<std::size_t>(a)] > costs[static_cast<std::size_t>(b)];
    });
    costs_.clear();
    for (const std::int64_t index : order_) costs_.push_back(costs[static_cast<std::size_t>(index)]);
    all_ = std::accumulate(costs.begin(), costs.end(), 0.0);
}

std::vector<double> TieredQuantizer::rowErrors(const TablePlan& plan) const {
    std::vector<double> errors(order_.size());
    for (const RowTier& tier : plan.tiers)
        for (std::int64_t place = tier.begin; place < tier.end; ++place)
            errors[static_cast<std::size_t>(order_[static_cast<std::size_t>(place)])] = measured_[tier.format].error;
    return errors;
}

std::vector<float> TieredQuantizer::pickedRows(std::span<const std::int64_t> rows) const {
    std::vector<float> result;
    result.reserve(rows.size() * static_cast<std::size_t>(length_));
    for (const std::int64_t row : rows) {
        const float* source = table_.data() + row * length_;
        result.insert(result.end(), source, source + length_);
    }
    return result;
}

std::optional<TablePlan> TieredQuantizer::plan(double bytes, std::int64_t mostTables) const {
    RowBudget budget;
    budget.bytes = bytes;
    budget.bytesOfSeveralTables = static_cast<double>(TieredTable::mapBytes(rows_));
    budget.mostFormats = static_cast<std::size_t>(mostTables);
    TablePlan plan;
    plan.tiers = allocateRows(costs_, measured_, budget);
    if (plan.tiers.empty()) return std::nullopt;
    if (plan.tiers.size() > 1) plan.bytes = budget.bytesOfSeveralTables;
    for (const RowTier& tier : plan.tiers) {
        const RowFormat& format = measured_[tier.format];
        plan.bytes += format.fixedBytes + format.bytesPerRow * static_cast<double>(tier.end - tier.begin);
        plan.error +=
            format.error * std::accumulate(costs_.begin() + tier.begin, costs_.begin() + tier.end, 0.0);
    }
    plan.error /= std::max(all_, 1e-300);
    return plan;
}

/// Size of a row, and the mean error on rows spread over the table by cost.
RowFormat TieredQuantizer::measured(const TableFormat& format) const {
    const std::int64_t count = std::min(rows_, kMeasuredRows);
    std::vector<std::int64_t> picked;
    for (std::int64_t i = 0; i < count; ++i)
        picked.push_back(order_[static_cast<std::size_t>(i * rows_ / count)]);
    const std::vector<float> rows = pickedRows(picked);
    const double all = energyOf(rows);
    RowFormat result;
    if (format.dimension == 0) {
        const auto quantized =
            quantizeByHqq(rows, groupedLayout({count, length_}, 1, length_), ruleFor(format.bits), {});
        result.bytesPerRow = static_cast<double>(QuantizedTable::sizeBytes(ruleFor(format.bits), rows_,
                                                                           length_, length_)) /
                             static_cast<double>(rows_);
        result.error = quantized->relativeError * quantized->relativeError;
        return result;
    }
    // Learnt from other rows than those it is measured on.
    std::vector<std::int64_t> others;
    for (std::int64_t i = 0; i < count; ++i)
        others.push_back(order_[static_cast<std::size_t>((2 * i + 1) * rows_ / (2 * count) % rows_)]);
    const std::vector<double> alike(others.size(), 1.0);
    const Codebook codebook =
        trainCodebook(pickedRows(others), alike, length_,
                      {format.dimension, format.size, kMeasuringIterations, kMeasuringSamples},
                      context_.random(name_ + format.describe()));
    const CodebookCodes codes = encodeRows(rows, length_, codebook);
    const double lost = std::accumulate(codes.squaredErrors.begin(), codes.squaredErrors.end(), 0.0);
    result.bytesPerRow =
        static_cast<double>(CodebookStorage::sizeBytes(format.dimension, format.size, rows_, length_)) /
        static_cast<double>(rows_);
    result.fixedBytes = static_cast<double>(CodebookStorage::codebookBytes(format.dimension, format.size));
    result.error = all > 0 ? lost / all : 0;
    return result;
}

TieredQuantizer::Places TieredQuantizer::places(const TablePlan& plan) const {
    Places places{order_, {}};
    if (plan.tiers.size() == 1) std::iota(places.order.begin(), places.order.end(), 0);
    for (const RowTier& tier : plan.tiers)
        places.description += fmt::format("{}{} rows in {}", places.description.empty() ? "" : ", ",
                                          tier.end - tier.begin, formats_[tier.format].describe());
    return places;
}

EncodedTable TieredQuantizer::encode(const TablePlan& plan) const {
    auto [order, description] = places(plan);
    EncodedTable table{std::move(order), {}, std::move(description)};
    double lost = 0;
    for (const RowTier& tier : plan.tiers) {
        const std::span rows(table.order.data() + tier.begin, static_cast<std::size_t>(tier.end - tier.begin));
        table.parts.push_back(encode(formats_[tier.format], rows, lost));
    }
    table.error = std::sqrt(lost / std::max(all_, 1e-300));
    return table;
}

EncodedTable::Part TieredQuantizer::encode(const TableFormat& format, std::span<const std::int64_t> picked,
                                           double& lost) const {
    EncodedTable::Part part;
    part.rows = static_cast<std::int64_t>(picked.size());
    const std::vector<float> rows = pickedRows(picked);
    std::vector<double> usage;
    for (const std::int64_t index : picked) usage.push_back(usage_[static_cast<std::size_t>(index)]);
    if (format.dimension > 0) {
        part.codebook = trainCodebook(rows, usage, length_, {format.dimension, format.size},
                                      context_.random(name_ + "/codebook"));
        CodebookCodes codes = encodeRows(rows, length_, part.codebook);
        for (std::size_t i = 0; i < usage.size(); ++i) lost += usage[i] * codes.squaredErrors[i];
        part.numbers = std::move(codes.codes);
        return part;
    }
    part.integers =
        quantizeByHqq(rows, groupedLayout({part.rows, length_}, 1, length_), ruleFor(format.bits), {});
    const std::vector<float> after = dequantizeWeights(*part.integers);
    for (std::size_t i = 0; i < after.size(); ++i)
        lost += usage[i / static_cast<std::size_t>(length_)] *
                std::pow(static_cast<double>(after[i]) - rows[i], 2);
    return part;
}

EncodedTable TieredQuantizer::placeholder(const TablePlan& plan) const {
    auto [order, description] = places(plan);
    EncodedTable table{std::move(order), {}, std::move(description)};
    for (const RowTier& tier : plan.tiers) {
        const TableFormat& format = formats_[tier.format];
        EncodedTable::Part part;
        part.rows = tier.end - tier.begin;
        if (format.dimension > 0) {
            part.codebook = {format.dimension, format.size,
                             std::vector<float>(static_cast<std::size_t>(format.dimension * format.size))};
            part.numbers.resize(static_cast<std::size_t>(part.rows * length_ / format.dimension));
        } else {
            part.integers =
                placeholderWeights(groupedLayout({part.rows, length_}, 1, length_), ruleFor(format.bits));
        }
        table.parts.push_back(std::move(part));
    }
    return table;
}

std::string tieredRefusal(const TargetWeight& weight) {
    if (weight.hasLinear()) return "its table is a linear layer's weight too, or no table";
    if (weight.constant->constant()->rank() != 2) return "its table is no matrix";
    for (const analysis::Site* site : weight.sites)
        if (std::string reason = QuantizedTable::refusal(*site->node, 2, 1); !reason.empty()) return reason;
    return allFinite(weight.constant->constant()->data<float>()) ? "" : kNotFinite;
}

void storeTable(ir::Edit& edit, const TargetWeight& weight, const EncodedTable& table,
                pipeline::PassReport& report) {
    const std::string& name = weight.constant->name();
    std::vector<TablePart> parts;
    for (const EncodedTable::Part& part : table.parts) {
        if (part.integers) {
            const auto stored = std::make_shared<QuantizedTable>(edit, name, *part.integers);
            parts.push_back({part.rows, [stored](ir::Value* indices, std::int64_t rank) {
                                 return stored->rows(indices, rank);
                             }});
        } else {
            const auto stored =
                std::make_shared<CodebookStorage>(edit, name, numbered(part.codebook, part.numbers, part.rows));
            parts.push_back({part.rows, [stored](ir::Value* indices, std::int64_t rank) {
                                 return stored->rows(indices, rank);
                             }});
        }
    }
    TieredTable tiered(edit, name, table.order, std::move(parts));
    for (const analysis::Site* site : weight.sites) {
        tiered.readBy(*site->node);
        report.changed.push_back(
            {site->name, fmt::format("{} to {}", describe(*weight.constant->constant()), table.description),
             table.error});
    }
}

}  // namespace tcompress::passes
