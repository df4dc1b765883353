// What object detectors need after the Transformer: NonMaxSuppression and RoiAlign.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

struct Box {
    float top, left, bottom, right;
    float area() const { return (bottom - top) * (right - left); }
};

/// Two opposite corners (y1, x1, y2, x2) in any order, or (x, y, width, height) around a centre.
enum class BoxFormat { corners, center };

Box boxOf(const float* b, BoxFormat format) {
    if (format == BoxFormat::center) return {b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2};
    return {std::min(b[0], b[2]), std::min(b[1], b[3]), std::max(b[0], b[2]), std::max(b[1], b[3])};
}

float intersectionOverUnion(const Box& a, const Box& b) {
    const float height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
    const float width = std::min(a.right, b.right) - std::max(a.left, b.left);
    if (height <= 0 || width <= 0 || a.area() <= 0 || b.area() <= 0) return 0;
    const float common = height * width;
    return common / (a.area() + b.area() - common);
}

/// Boxes in the order of falling scores, without those that overlap a chosen one too much.
std::vector<std::int64_t> chosenBoxes(const std::vector<Box>& boxes, const float* scores, std::size_t most, float overlap, float lowest) {
    std::vector<std::int64_t> order(boxes.size());
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](std::int64_t i) { return !(scores[i] > lowest); });
    std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
    std::vector<std::int64_t> chosen;
    for (std::int64_t candidate : order) {
        if (chosen.size() == most) break;
        const bool isCovered = std::ranges::any_of(chosen, [&](std::int64_t other) {
            return intersectionOverUnion(boxes[static_cast<std::size_t>(other)], boxes[static_cast<std::size_t>(candidate)]) > overlap;
        });
        if (!isCovered) chosen.push_back(candidate);
    }
    return chosen;
}

/// Boxes [batch, count, 4], scores [batch, classes, count], [most per class], [overlap], [score] → rows (batch, class, box).
Runner makeNonMaxSuppression(const NodeInfo& info) {
    const BoxFormat format = info.attributes.integer("center_point_box", 0) ? BoxFormat::center : BoxFormat::corners;
    return [format](OpContext& context) {
        const Tensor& boxes = context.input(0);
        const Tensor& scores = context.input(1);
        if (boxes.rank() != 3 || scores.rank() != 3 || boxes.shape() != Shape{scores.shape()[0], scores.shape()[2], 4}) {
            throw ModelError(fmt::format("boxes of shape {} do not fit scores of {}", toString(boxes.shape()), toString(scores.shape())));
        }
        const std::int64_t count = scores.shape()[2];
        const std::int64_t most = context.has(2) ? integerScalar(context.input(2)) : 0;
        const float overlap = context.has(3) ? realScalar(context.input(3)) : 0.0F;
        const float lowest = context.has(4) ? realScalar(context.input(4)) : -std::numeric_limits<float>::infinity();
        std::vector<std::int64_t> rows;
        for (std::int64_t batch = 0; batch < scores.shape()[0] && most > 0; ++batch) {
            std::vector<Box> ofBatch;
            for (std::int64_t i = 0; i < count; ++i) ofBatch.push_back(boxOf(boxes.data<float>().data() + (batch * count + i) * 4, format));
            for (std::int64_t c = 0; c < scores.shape()[1]; ++c) {
                const float* ofClass = scores.data<float>().data() + (batch * scores.shape()[1] + c) * count;
                for (std::int64_t i : chosenBoxes(ofBatch, ofClass, static_cast<std::size_t>(most), overlap, lowest)) {
                    rows.insert(rows.end(), {batch, c, i});
                }
            }
        }
        context.setOutput(0, Tensor::of<std::int64_t>({static_cast<std::int64_t>(rows.size()) / 3, 3}, rows));
    };
}

enum class RoiPooling { average, maximum };

struct RoiAlign {
    RoiPooling pooling;
    std::int64_t height, width;  ///< of the result
    std::int64_t samples;        ///< along an axis of a cell; 0: one a pixel
    float scale;                 ///< from the boxes' coordinates to pixels
    float shift;                 ///< of pixel centres
};

/// The four products of weight and pixel around a position; a position more than one pixel outside gives zeros,
/// as does none (NaN).
std::array<float, 4> weightedPixels(const float* plane, std::int64_t height, std::int64_t width, float y, float x) {
    const bool isNear = y >= -1 && y <= static_cast<float>(height) && x >= -1 && x <= static_cast<float>(width);
    if (!isNear) return {};
    y = std::clamp(y, 0.0F, static_cast<float>(height - 1));
    x = std::clamp(x, 0.0F, static_cast<float>(width - 1));
    const auto top = static_cast<std::int64_t>(y);
    const auto left = static_cast<std::int64_t>(x);
    const std::int64_t bottom = std::min(top + 1, height - 1);
    const std::int64_t right = std::min(left + 1, width - 1);
    const float dy = y - static_cast<float>(top);
    const float dx = x - static_cast<float>(left);
    return {(1 - dy) * (1 - dx) * plane[top * width + left], (1 - dy) * dx * plane[top * width + right],
            dy * (1 - dx) * plane[bottom * width + left], dy * dx * plane[bottom * width + right]};
}

/// One box (x1, y1, x2, y2) on one plane (He et al., Mask R-CNN, 2017).
void alignRoi(const RoiAlign& params, const float* plane, std::int64_t height, std::int64_t width, const float* roi, float* result) {
    const float left = roi[0] * params.scale - params.shift;
    const float top = roi[1] * params.scale - params.shift;
    float roiWidth = roi[2] * params.scale - params.shift - left;
    float roiHeight = roi[3] * params.scale - params.shift - top;
    if (params.shift == 0) {  // the older convention knows no boxes below one pixel
        roiWidth = std::max(roiWidth, 1.0F);
        roiHeight = std::max(roiHeight, 1.0F);
    }
    const float cellHeight = roiHeight / static_cast<float>(params.height);
    const float cellWidth = roiWidth / static_cast<float>(params.width);
    const auto samplesOf = [&](float cell) {
        constexpr std::int64_t kLargest = std::int64_t{1} << 20;  // more pixels than an image has; NaN is refused too
        if (params.samples > kLargest || (params.samples <= 0 && !(cell < static_cast<float>(kLargest)))) {
            throw ModelError(fmt::format("a box of {} by {} pixels in {} by {} cells", roiWidth, roiHeight, params.width, params.height));
        }
        return params.samples > 0 ? params.samples : static_cast<std::int64_t>(std::ceil(std::max(cell, 0.0F)));
    };
    const std::int64_t rows = samplesOf(cellHeight);
    const std::int64_t columns = samplesOf(cellWidth);
    for (std::int64_t cell = 0; cell < params.height * params.width; ++cell) {
        const float cellTop = top + static_cast<float>(cell / params.width) * cellHeight;
        const float cellLeft = left + static_cast<float>(cell % params.width) * cellWidth;
        float sum = 0;
        float largest = -std::numeric_limits<float>::infinity();
        for (std::int64_t i = 0; i < rows * columns; ++i) {
            const float y = cellTop + (static_cast<float>(i / columns) + 0.5F) * cellHeight / static_cast<float>(rows);
            const float x = cellLeft + (static_cast<float>(i % columns) + 0.5F) * cellWidth / static_cast<float>(columns);
            const std::array<float, 4> parts = weightedPixels(plane, height, width, y, x);
            sum += parts[0] + parts[1] + parts[2] + parts[3];
            // The maximum is over the weighted pixels, not over the positions: so the operator's cases and ONNX Runtime have it.
            largest = std::max(largest, *std::ranges::max_element(parts));
        }
        const float mean = sum / static_cast<float>(std::max<std::int64_t>(1, rows * columns));
        result[cell] = params.pooling == RoiPooling::average || rows * columns == 0 ? mean : largest;
    }
}

/// Image [batch, channels, height, width], boxes [count, 4], batch element of each box.
Runner makeRoiAlign(const NodeInfo& info) {
    RoiAlign params{};
    params.pooling = info.attributes.text("mode", "avg") == "max" ? RoiPooling::maximum : RoiPooling::average;
    params.height = info.attributes.integer("output_height", 1);
    params.width = info.attributes.integer("output_width", 1);
    params.samples = info.attributes.integer("sampling_ratio", 0);
    params.scale = info.attributes.real("spatial_scale", 1);
    const std::string_view fallback = info.version < 16 ? "output_half_pixel" : "half_pixel";
    params.shift = info.attributes.text("coordinate_transformation_mode", fallback) == "half_pixel" ? 0.5F : 0.0F;
    if (params.height <= 0 || params.width <= 0) throw ModelError("the result has no rows or columns");
    return [params](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& rois = context.input(1);
        const std::vector<std::int64_t> batches = integers(context.input(2));
        if (x.rank() != 4 || x.size() == 0 || rois.shape() != Shape{static_cast<std::int64_t>(batches.size()), 4}) {
            throw ModelError(fmt::format("boxes of shape {} do not fit an image of {}", toString(rois.shape()), toString(x.shape())));
        }
        const std::int64_t channels = x.shape()[1];
        const std::int64_t planeSize = x.shape()[2] * x.shape()[3];
        const std::int64_t count = rois.shape()[0];
        float* y = context.output<float>(0, {count, channels, params.height, params.width}).data();
        parallelFor(count, [&](std::int64_t i) {
            const std::int64_t batch = normalizeIndex(batches[static_cast<std::size_t>(i)], x.shape()[0]);
            for (std::int64_t c = 0; c < channels; ++c) {
                const float* plane = x.data<float>().data() + (batch * channels + c) * planeSize;
                alignRoi(params, plane, x.shape()[2], x.shape()[3], rois.data<float>().data() + i * 4,
                         y + (i * channels + c) * params.height * params.width);
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "NonMaxSuppression", 10, makeNonMaxSuppression, TypeSet{DType::float32}, FloatSupport::float32},
    {"", "RoiAlign", 10, makeRoiAlign, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> detectionOperators() { return kRows; }

}  // namespace tcompress::exec
