#include "passes/quantize/table/tiered_table.h"

#include "lib/support/check.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kMostShortPlaces = 65536;

ir::Value* scalar(ir::Edit& edit, std::int64_t value) {
    return edit.addInitializer("place", Tensor::scalar<std::int32_t>(static_cast<std::int32_t>(value)));
}

}  // namespace

std::int64_t TieredTable::mapBytes(std::int64_t rows) { return rows * (rows <= kMostShortPlaces ? 2 : 4); }

TieredTable::TieredTable(ir::Edit& edit, const std::string& name, const std::vector<std::int64_t>& order,
                         std::vector<TablePart> parts)
    : edit_(edit), parts_(std::move(parts)) {
    TCOMPRESS_CHECK(!parts_.empty(), "a table without parts");
    if (parts_.size() == 1) return;
    const auto rows = static_cast<std::int64_t>(order.size());
    std::vector<std::int32_t> places(order.size());
    for (std::int64_t place = 0; place < rows; ++place)
        places[static_cast<std::size_t>(order[static_cast<std::size_t>(place)])] =
            static_cast<std::int32_t>(place);
    const Tensor wide = Tensor::of<std::int32_t>({rows}, std::span<const std::int32_t>(places));
    map_ =
        edit.addInitializer(name + "_places", rows <= kMostShortPlaces ? convert(wide, DType::uint16) : wide);
}

ir::Value* TieredTable::clipped(ir::Value* place, std::int64_t begin, std::int64_t rows) {
    if (begin > 0) {
        place = emit(edit_, "Sub", {place, scalar(edit_, begin)});
        place = emit(edit_, "Max", {place, scalar(edit_, 0)});
    }
    return emit(edit_, "Min", {place, scalar(edit_, rows - 1)});
}

void TieredTable::readBy(ir::Node& gather) {
    ir::Value* indices = gather.input(1);
    const auto shape = indices->shape();
    TCOMPRESS_CHECK(shape.has_value(), "the rank of the indices is not known");
    const auto rank = static_cast<std::int64_t>(shape->size());
    if (map_ == nullptr) {
        edit_.replaceAllUses(gather.output(), parts_.front().read(indices, rank));
        return;
    }
    ir::Value* place = emit(edit_, "Gather", {map_, indices});
    place = emitCast(edit_, place, DType::int32);
    std::vector<std::int64_t> column(static_cast<std::size_t>(rank), 0);
    column.push_back(1);
    ir::Value* rows = nullptr;
    std::int64_t end = 0;
    for (const TablePart& part : parts_) end += part.rows;
    // From the last table to the first.
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
        const std::int64_t begin = end - part->rows;
        ir::Value* own = part->read(clipped(place, begin, part->rows), rank);
        if (rows == nullptr) {
            rows = own;
        } else {
            ir::Value* isOwn = emit(edit_, "Less", {place, scalar(edit_, end)});
            isOwn = emit(edit_, "Reshape", {isOwn, emitIntegers(edit_, column)});
            rows = emit(edit_, "Where", {isOwn, own, rows});
        }
        end = begin;
    }
    edit_.replaceAllUses(gather.output(), rows);
}

}  // namespace tcompress::passes
