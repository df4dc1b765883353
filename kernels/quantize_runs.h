#pragma once
// A range of a tensor's elements cut into runs of contiguous elements whose scales are one number or
// contiguous numbers.

#include <algorithm>
#include <cstdint>

#include "kernels/quantize.h"

namespace tcompress::kernels {

enum class ScaleStep : std::int64_t { same = 0, perElement = 1 };

struct Run {
    std::int64_t begin = 0, count = 0;
    std::int64_t scale = 0;  // index of the first element's scale
    ScaleStep step = ScaleStep::same;
};

/// Calls body(Run) for the runs of [begin, end), in order.
template <class Body>
void forEachRun(const QuantizationLayout& layout, std::int64_t begin, std::int64_t end, const Body& body) {
    if (layout.granularity == Granularity::tensor) {
        if (begin < end) body(Run{begin, end - begin, 0, ScaleStep::same});
        return;
    }
    const bool blocked = layout.granularity == Granularity::block;
    const std::int64_t row = layout.axis * layout.inner;
    for (std::int64_t i = begin; i < end;) {
        const std::int64_t outer = i / row;
        const std::int64_t axis = i % row / layout.inner;
        const std::int64_t inner = i % layout.inner;
        Run run;
        run.begin = i;
        std::int64_t length = 0;
        if (!blocked && layout.inner == 1) {
            run.scale = axis;
            run.step = ScaleStep::perElement;
            length = layout.axis - axis;
        } else if (!blocked) {
            run.scale = axis;
            length = layout.inner - inner;
        } else {
            run.scale = (outer * layout.blocks() + axis / layout.block) * layout.inner + inner;
            if (layout.inner == 1) {
                length = std::min(layout.block - axis % layout.block, layout.axis - axis);
            } else {
                run.step = ScaleStep::perElement;
                length = layout.inner - inner;
            }
        }
        run.count = std::min(length, end - i);
        body(run);
        i += run.count;
    }
}

}  // namespace tcompress::kernels
