// Comparisons, logic and selection with broadcasting.

#include <algorithm>

#include "kernels/broadcast_loop.h"
#include "kernels/elementwise.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

template <class T, class Compare>
void compareRows(const Broadcast& plan, const T* a, const T* b, bool* y, Compare compare) {
    forEachRow<2>(plan,
                  [&](std::int64_t position, const auto& offsets, const auto& strides, std::int64_t count) {
                      const T* left = a + offsets[0];
                      const T* right = b + offsets[1];
                      for (std::int64_t i = 0; i < count; ++i)
                          y[position + i] = compare(left[i * strides[0]], right[i * strides[1]]);
                  });
}

template <class T>
void whereRows(const Broadcast& plan, const bool* condition, const void* a, const void* b, void* y) {
    forEachRow<3>(plan,
                  [&](std::int64_t position, const auto& offsets, const auto& strides, std::int64_t count) {
                      const bool* choose = condition + offsets[0];
                      const T* left = static_cast<const T*>(a) + offsets[1];
                      const T* right = static_cast<const T*>(b) + offsets[2];
                      T* target = static_cast<T*>(y) + position;
                      for (std::int64_t i = 0; i < count; ++i)
                          target[i] = choose[i * strides[0]] ? left[i * strides[1]] : right[i * strides[2]];
                  });
}

template <class T>
void expandRows(const Broadcast& plan, const void* a, void* y) {
    forEachRow<1>(plan,
                  [&](std::int64_t position, const auto& offsets, const auto& strides, std::int64_t count) {
                      const T* source = static_cast<const T*>(a) + offsets[0];
                      T* target = static_cast<T*>(y) + position;
                      if (strides[0] == 1)
                          std::copy_n(source, count, target);
                      else
                          std::fill_n(target, count, *source);
                  });
}

template <class Call>
void forElementBytes(int elementBytes, const Call& call) {
    switch (elementBytes) {
        case 1:
            return call(std::uint8_t{});
        case 2:
            return call(std::uint16_t{});
        case 4:
            return call(std::uint32_t{});
        case 8:
            return call(std::uint64_t{});
        default:
            TCOMPRESS_CHECK(false, "elements must be 1, 2, 4 or 8 bytes wide");
    }
}

}  // namespace

template <class T>
void compare(CompareOp op, const Broadcast& plan, const T* a, const T* b, bool* y) {
    switch (op) {
        case CompareOp::equal:
            return compareRows(plan, a, b, y, [](T l, T r) { return l == r; });
        case CompareOp::less:
            return compareRows(plan, a, b, y, [](T l, T r) { return l < r; });
        case CompareOp::lessOrEqual:
            return compareRows(plan, a, b, y, [](T l, T r) { return l <= r; });
        case CompareOp::greater:
            return compareRows(plan, a, b, y, [](T l, T r) { return l > r; });
        case CompareOp::greaterOrEqual:
            return compareRows(plan, a, b, y, [](T l, T r) { return l >= r; });
    }
}

void logical(LogicalOp op, const Broadcast& plan, const bool* a, const bool* b, bool* y) {
    switch (op) {
        case LogicalOp::logicalAnd:
            return compareRows(plan, a, b, y, [](bool l, bool r) { return l && r; });
        case LogicalOp::logicalOr:
            return compareRows(plan, a, b, y, [](bool l, bool r) { return l || r; });
        case LogicalOp::logicalXor:
            return compareRows(plan, a, b, y, [](bool l, bool r) { return l != r; });
    }
}

void where(const Broadcast& plan, const bool* condition, const void* a, const void* b, int elementBytes,
           void* y) {
    forElementBytes(elementBytes,
                    [&](auto element) { whereRows<decltype(element)>(plan, condition, a, b, y); });
}

void expand(const Broadcast& plan, const void* a, int elementBytes, void* y) {
    forElementBytes(elementBytes, [&](auto element) { expandRows<decltype(element)>(plan, a, y); });
}

template void compare(CompareOp, const Broadcast&, const float*, const float*, bool*);
template void compare(CompareOp, const Broadcast&, const double*, const double*, bool*);
template void compare(CompareOp, const Broadcast&, const std::int8_t*, const std::int8_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::uint8_t*, const std::uint8_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::int16_t*, const std::int16_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::uint16_t*, const std::uint16_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::int32_t*, const std::int32_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::uint32_t*, const std::uint32_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::int64_t*, const std::int64_t*, bool*);
template void compare(CompareOp, const Broadcast&, const std::uint64_t*, const std::uint64_t*, bool*);
template void compare(CompareOp, const Broadcast&, const bool*, const bool*, bool*);

}  // namespace tcompress::kernels
