// patch(pixel) · wᵀ is a product with constant weights, as a linear layer's: [pixels, outputs], transposed at the end. Each
// element of the image belongs to one patch only, so gathering patches copies the image once.

#include "kernels/native/convolution_patches.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/convolution_cache.h"
#include "kernels/matmul.h"
#include "kernels/native/transpose_matrix.h"
#include "kernels/tiles.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// Images are taken in groups of about so many elements, which bounds the scratch memory.
constexpr std::int64_t kGroupElements = 1 << 20;
constexpr std::int64_t kTaskElements = 16384;

struct Patches;
struct Products;

class PackedPatchWeights : public ConvolutionCache {
  public:
    PackedWeightsPtr weights;
};

std::int64_t patchSize(const Convolution& params) {
    return params.channels * params.window.kernel[0] * params.window.kernel[1];
}

std::shared_ptr<const PackedPatchWeights> weightsOf(const Convolution& params) {
    if (params.cache) {
        auto known = std::dynamic_pointer_cast<const PackedPatchWeights>(*params.cache);
        if (known) return known;
    }
    auto made = std::make_shared<PackedPatchWeights>();
    made->weights = packWeights(params.w, patchSize(params), params.outputs, 1, patchSize(params));
    if (params.cache) *params.cache = made;
    return made;
}

/// The patch of one pixel, in the order of the weights: [channel][row][column].
void copyPatch(const Convolution& params, const float* image, std::int64_t pixel, float* patch) {
    const auto [height, width] = params.window.kernel;
    const float* corner =
        image + pixel / params.output[1] * height * params.input[1] + pixel % params.output[1] * width;
    for (std::int64_t channel = 0; channel < params.channels; ++channel)
        for (std::int64_t row = 0; row < height; ++row, patch += width)
            std::memcpy(patch, corner + (channel * params.input[0] + row) * params.input[1],
                        static_cast<std::size_t>(width) * sizeof(float));
}

}  // namespace

std::optional<std::string> refusePatches(const Convolution& params) {
    const Window& window = params.window;
    if (params.groups != 1) return "channels in groups";
    if (window.kernel != window.stride) return "windows that are not side by side";
    if (window.padBegin[0] != 0 || window.padBegin[1] != 0) return "padding";
    if (window.dilation[0] != 1 || window.dilation[1] != 1) return "dilation";
    for (std::size_t d = 0; d < 2; ++d)
        if (params.output[d] * window.kernel[d] > params.input[d]) return "padding";
    return std::nullopt;
}

void convolutionPatches(const Convolution& params) {
    const auto packed = weightsOf(params);
    const std::int64_t k = patchSize(params);
    const std::int64_t outputs = params.outputs;
    const std::int64_t pixels = params.output[0] * params.output[1];
    const std::int64_t imageSize = params.channels * params.input[0] * params.input[1];
    const std::int64_t group =
        std::clamp<std::int64_t>(kGroupElements / std::max<std::int64_t>(1, pixels * (k + outputs)), 1, params.batch);
    for (std::int64_t first = 0; first < params.batch; first += group) {
        const std::int64_t rows = std::min(group, params.batch - first) * pixels;
        float* patches = threadScratch<Patches, float>(rows * k);
        float* products = threadScratch<Products, float>(rows * outputs);
        const float* images = params.x + first * imageSize;
        parallelRanges(rows, kTaskElements / std::max<std::int64_t>(1, k) + 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row)
                copyPatch(params, images + row / pixels * imageSize, row % pixels, patches + row * k);
        });
        matmul({patches, k, rows, packed->weights.get(), products, outputs, {1.0F, params.bias, params.activation}});
        constexpr std::int64_t kOutputs = 64;
        const std::int64_t blocks = ceilDivide(outputs, kOutputs);
        float* y = params.y + first * outputs * pixels;
        parallelRanges(rows / pixels * blocks, kTaskElements / (kOutputs * pixels) + 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t block = begin; block < end; ++block) {
                const std::int64_t image = block / blocks;
                const std::int64_t output = block % blocks * kOutputs;
                transposeMatrix(products + image * pixels * outputs + output, outputs, pixels,
                                std::min(kOutputs, outputs - output), y + (image * outputs + output) * pixels, pixels);
            }
        });
    }
}

}  // namespace tcompress::kernels
