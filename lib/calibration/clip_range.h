#pragma once
// Where to clip a value before it is quantized, decided from its histogram.

#include <cstdint>

#include "lib/calibration/histogram.h"

namespace tcompress::calibration {

struct ClipRange {
    double low = 0;
    double high = 0;
    bool operator==(const ClipRange&) const = default;
};

/// symmetric: low = −high. asymmetric: both ends are chosen; the range always holds 0, which must be exact.
enum class RangeKind { symmetric, asymmetric };

/// The smallest to the largest value.
ClipRange fullRange(const Histogram& histogram, RangeKind kind);

/// Leaves out the share 1 − `share` of the values: the largest |x| (symmetric), or half of it at either end.
/// Linear within a cell. 0 < share ≤ 1.
ClipRange percentileRange(const Histogram& histogram, double share, RangeKind kind);

/// The threshold on |x| whose quantized distribution is nearest the original in the sense of Kullback and
/// Leibler: S. Migacz, "8-bit Inference with TensorRT", GTC 2017. For i = levels … cells: P is the first i
/// cells with all that lies beyond added to the last; Q is the first i cells summed in `levels` runs of cells
/// (run g holds cells ⌊g·i / levels⌋ to ⌊(g+1)·i / levels⌋ − 1), each run's sum spread evenly over its cells
/// that are not empty; the i with the least Σ P log(P/Q), both normalized, gives the threshold (i + ½) ·
/// width, at most max |x|. A Q that is 0 where P is not counts as infinitely far. The range is [−t, t], or
/// [0, t] where no value is negative and `kind` is asymmetric.
ClipRange entropyRange(const Histogram& histogram, RangeKind kind, std::int64_t levels = 128);

/// The range whose quantization to `steps` + 1 evenly spaced points has the least mean squared error,
/// clipping included, cells taken as points at their centres. Searched over ends shrunk by steps of 1 %, one
/// end after the other when both are free.
ClipRange leastSquaresRange(const Histogram& histogram, RangeKind kind, std::int64_t steps = 254);

}  // namespace tcompress::calibration
