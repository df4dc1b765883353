#include <fmt/format.h>

#include <algorithm>

#include "kernels/elementwise.h"
#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::kernels {

std::int64_t Broadcast::size() const {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    return count;
}

std::vector<std::int64_t> broadcastShape(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
    std::vector<std::int64_t> result(std::max(a.size(), b.size()));
    for (std::size_t fromEnd = 0; fromEnd < result.size(); ++fromEnd) {
        const std::int64_t x = fromEnd < a.size() ? a[a.size() - 1 - fromEnd] : 1;
        const std::int64_t y = fromEnd < b.size() ? b[b.size() - 1 - fromEnd] : 1;
        if (x != y && x != 1 && y != 1)
            throw KernelError(fmt::format("shapes [{}] and [{}] do not broadcast: {} against {}",
                                          fmt::join(a, ", "), fmt::join(b, ", "), x, y));
        result[result.size() - 1 - fromEnd] = x == 1 ? y : x;
    }
    return result;
}

Broadcast broadcast(std::span<const std::int64_t> result,
                    std::span<const std::vector<std::int64_t>> operands) {
    Broadcast full;
    full.shape.assign(result.begin(), result.end());
    const std::size_t rank = result.size();
    for (const std::vector<std::int64_t>& shape : operands) {
        TCOMPRESS_CHECK(shape.size() <= rank, "broadcast: an operand has more dimensions than the result");
        std::vector<std::int64_t> strides(rank, 0);
        std::int64_t stride = 1;
        for (std::size_t fromEnd = 0; fromEnd < shape.size(); ++fromEnd) {
            const std::int64_t size = shape[shape.size() - 1 - fromEnd];
            const std::size_t d = rank - 1 - fromEnd;
            TCOMPRESS_CHECK(size == result[d] || size == 1, "broadcast: an operand does not fit the result");
            if (size != 1) strides[d] = stride;
            stride *= size;
        }
        full.strides.push_back(std::move(strides));
    }

    // A dimension joins the one inside it when every operand steps over both evenly.
    Broadcast merged;
    merged.strides.resize(operands.size());
    for (std::size_t d = 0; d < rank; ++d) {
        if (full.shape[d] == 1) continue;
        bool joins = !merged.shape.empty();
        for (std::size_t i = 0; i < operands.size() && joins; ++i)
            joins = merged.strides[i].back() == full.strides[i][d] * full.shape[d];
        if (joins) {
            merged.shape.back() *= full.shape[d];
            for (std::size_t i = 0; i < operands.size(); ++i) merged.strides[i].back() = full.strides[i][d];
        } else {
            merged.shape.push_back(full.shape[d]);
            for (std::size_t i = 0; i < operands.size(); ++i) merged.strides[i].push_back(full.strides[i][d]);
        }
    }
    return merged;
}

}  // namespace tcompress::kernels
