#include "kernels/onednn/convolution.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/convolution_cache.h"
#include "kernels/onednn/context.h"
#include "kernels/tiles.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

using Desc = dnnl::memory::desc;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;
using Dims = dnnl::memory::dims;

/// The shape of one task: one image, and as many channels and outputs as a piece has.
struct PieceShape {
    std::int64_t channels = 0, outputs = 0, groups = 1;
    std::array<std::int64_t, 2> input{}, output{};
    Window window;
    bool bias = false;

    auto key() const {
        return std::array<std::int64_t, 18>{channels,
                                            outputs,
                                            groups,
                                            input[0],
                                            input[1],
                                            output[0],
                                            output[1],
                                            window.kernel[0],
                                            window.kernel[1],
                                            window.stride[0],
                                            window.stride[1],
                                            window.dilation[0],
                                            window.dilation[1],
                                            window.padBegin[0],
                                            window.padBegin[1],
                                            window.padEnd[0],
                                            window.padEnd[1],
                                            bias ? 1 : 0};
    }
    Dims weightDims() const {
        if (groups == 1) return {outputs, channels, window.kernel[0], window.kernel[1]};
        return {groups, outputs / groups, channels / groups, window.kernel[0], window.kernel[1]};
    }
    Desc plainInput() const { return {{1, channels, input[0], input[1]}, Type::f32, Tag::nchw}; }
    Desc plainOutput() const { return {{1, outputs, output[0], output[1]}, Type::f32, Tag::nchw}; }
    Desc plainWeights() const { return {weightDims(), Type::f32, groups == 1 ? Tag::oihw : Tag::goihw}; }
    Desc biasDesc() const { return {{outputs}, Type::f32, Tag::x}; }
};

struct Primitive {
    dnnl::convolution_forward run;
    dnnl::reorder enter, leave;  // empty when the layouts agree
    Desc input, weights, output, scratchpad;
};

std::shared_ptr<const Primitive> primitiveOf(const PieceShape& shape) {
    static std::mutex mutex;
    static std::map<decltype(shape.key()), std::shared_ptr<const Primitive>> primitives;
    const std::lock_guard lock(mutex);
    auto& entry = primitives[shape.key()];
    if (entry) return entry;
    const dnnl::engine& engine = onednn::threadContext().engine;
    const auto any = [](const Desc& desc) { return Desc(desc.get_dims(), Type::f32, Tag::any); };
    const Window& w = shape.window;
    const dnnl::convolution_forward::primitive_desc desc(
        engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        any(shape.plainInput()), any(shape.plainWeights()), shape.bias ? shape.biasDesc() : Desc(),
        any(shape.plainOutput()), Dims{w.stride[0], w.stride[1]}, Dims{w.dilation[0] - 1, w.dilation[1] - 1},
        Dims{w.padBegin[0], w.padBegin[1]}, Dims{w.padEnd[0], w.padEnd[1]}, onednn::callerScratchpad());
    auto made = std::make_shared<Primitive>();
    made->run = dnnl::convolution_forward(desc);
    made->input = desc.src_desc();
    made->weights = desc.weights_desc();
    made->output = desc.dst_desc();
    made->scratchpad = desc.scratchpad_desc();
    if (made->input != shape.plainInput())
        made->enter = dnnl::reorder({engine, shape.plainInput(), engine, made->input});
    if (made->output != shape.plainOutput())
        made->leave = dnnl::reorder({engine, made->output, engine, shape.plainOutput()});
    return entry = std::move(made);
}

struct EnteringImage;
struct LeavingImage;

template <class Purpose>
dnnl::memory scratchMemory(const Desc& desc, const dnnl::engine& engine) {
    return {desc, engine, threadScratch<Purpose, std::byte>(static_cast<std::int64_t>(desc.get_size()))};
}

/// How channels are cut: groups stay whole; without groups, outputs are cut and every piece reads all
/// channels.
std::int64_t pieceCount(const Convolution& params) {
    constexpr std::int64_t kWanted = 4, kOutputsWorthAPiece = 32, kMultiplyAddsWorthATask = 4'000'000;
    if (params.batch >= kWanted) return 1;
    const std::int64_t work = params.outputs * params.output[0] * params.output[1] *
                              (params.channels / params.groups) * params.window.kernel[0] *
                              params.window.kernel[1];
    const std::int64_t most = std::min(ceilDivide(kWanted, params.batch), work / kMultiplyAddsWorthATask);
    const std::int64_t unit = params.groups > 1 ? params.groups : params.outputs / kOutputsWorthAPiece;
    std::int64_t pieces = std::clamp<std::int64_t>(most, 1, std::max<std::int64_t>(1, unit));
    while ((params.groups > 1 ? params.groups : params.outputs) % pieces != 0) --pieces;
    return pieces;
}

class PackedPieces : public ConvolutionCache {
  public:
    PieceShape shape;
    std::shared_ptr<const Primitive> primitive;
    std::vector<AlignedBuffer<std::byte>> weights;  // one a piece
};

std::shared_ptr<const PackedPieces> pack(const Convolution& params, const PieceShape& shape,
                                       std::int64_t pieces) {
    auto cache = std::make_shared<PackedPieces>();
    cache->shape = shape;
    cache->primitive = primitiveOf(shape);
    onednn::ThreadContext& context = onednn::threadContext();
    const Desc plain = shape.plainWeights();
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
        const auto bytes = static_cast<std::int64_t>(cache->primitive->weights.get_size());
        cache->weights.emplace_back(bytes);
        const float* w = params.w + piece * static_cast<std::int64_t>(plain.get_size() / sizeof(float));
        dnnl::memory source(plain, context.engine, const_cast<float*>(w));
        dnnl::memory target(cache->primitive->weights, context.engine, cache->weights.back().data());
        dnnl::reorder(source, target).execute(context.stream, source, target);
    }
    return cache;
}

}  // namespace

namespace onednn {

std::optional<std::string> refuseConvolution(const Convolution& params) {
    for (int d = 0; d < 2; ++d)
        if (params.input[d] == 0 || params.window.padBegin[d] < 0 || params.window.padEnd[d] < 0)
            return "empty input or negative padding";
    if (params.channels == 0 || params.outputs == 0) return "no channels";
    return std::nullopt;
}

void convolution(const Convolution& params) {
    const std::int64_t pieces = pieceCount(params);
    PieceShape shape;
    shape.groups = params.groups > 1 ? params.groups / pieces : 1;
    shape.channels = params.groups > 1 ? params.channels / pieces : params.channels;
    shape.outputs = params.outputs / pieces;
    shape.input = params.input;
    shape.output = params.output;
    shape.window = params.window;
    shape.bias = params.bias != nullptr;
    auto cache = params.cache ? std::dynamic_pointer_cast<const PackedPieces>(*params.cache) : nullptr;
    if (!cache || cache->shape.key() != shape.key() ||
        static_cast<std::int64_t>(cache->weights.size()) != pieces) {
        cache = pack(params, shape, pieces);
        if (params.cache) *params.cache = cache;
    }
    const Primitive& primitive = *cache->primitive;
    const std::int64_t inputPlane = params.input[0] * params.input[1];
    const std::int64_t outputPlane = params.output[0] * params.output[1];
    parallelFor(params.batch * pieces, [&](std::int64_t task) {
        ThreadContext& context = threadContext();
        const std::int64_t image = task / pieces;
        const std::int64_t piece = task % pieces;
        const std::int64_t firstChannel = params.groups > 1 ? piece * shape.channels : 0;
        const float* x = params.x + (image * params.channels + firstChannel) * inputPlane;
        float* y = params.y + (image * params.outputs + piece * shape.outputs) * outputPlane;
        dnnl::memory plainInput(shape.plainInput(), context.engine, const_cast<float*>(x));
        dnnl::memory plainOutput(shape.plainOutput(), context.engine, y);
        dnnl::memory input = plainInput;
        if (primitive.enter) {
            input = scratchMemory<EnteringImage>(primitive.input, context.engine);
            primitive.enter.execute(context.stream, plainInput, input);
        }
        dnnl::memory output =
            primitive.leave ? scratchMemory<LeavingImage>(primitive.output, context.engine) : plainOutput;
        const auto& weights = cache->weights[static_cast<std::size_t>(piece)];
        std::unordered_map<int, dnnl::memory> arguments = {
            {DNNL_ARG_SRC, input},
            {DNNL_ARG_WEIGHTS, dnnl::memory(primitive.weights, context.engine, const_cast<std::byte*>(weights.data()))},
            {DNNL_ARG_DST, output},
            {DNNL_ARG_SCRATCHPAD, context.scratchpadOf(primitive.scratchpad)}};
        if (params.bias)
            arguments[DNNL_ARG_BIAS] = dnnl::memory(shape.biasDesc(), context.engine,
                                                    const_cast<float*>(params.bias + piece * shape.outputs));
        primitive.run.execute(context.stream, arguments);
        if (primitive.leave) primitive.leave.execute(context.stream, output, plainOutput);
        if (params.activation != Activation::none) {
            const auto size = static_cast<std::size_t>(shape.outputs * outputPlane);
            activate(params.activation, {y, size}, {y, size});
        }
    });
}

}  // namespace onednn

}  // namespace tcompress::kernels
