#include "lib/exec/ops/rotary.h"

#include "kernels/transpose.h"

namespace tcompress::exec {

namespace {

/// y = rotated x; both heads x [batch, heads, rows, size] with their own strides.
void rotate(const Heads& x, float* y, const kernels::HeadStrides& yStrides, const Tensor& cosines, const Tensor& sines,
            const std::vector<std::int64_t>& positions, RotaryLayout layout, std::int64_t dimension) {
    const std::int64_t turned = dimension == 0 ? x.size : dimension;
    const std::int64_t half = turned / 2;
    if (cosines.rank() < 1 || cosines.shape().back() != half || sines.shape() != cosines.shape()) {
        throw ModelError(fmt::format("tables of shape {} and {} do not fit {} rotated elements", toString(cosines.shape()),
                                     toString(sines.shape()), turned));
    }
    const std::int64_t tableRows = cosines.size() / std::max<std::int64_t>(1, half);
    const float* cosine = cosines.data<float>().data();
    const float* sine = sines.data<float>().data();
    parallelRanges(x.batch * x.rows, grainFor(x.heads * x.size), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t position = normalizeIndex(positions[static_cast<std::size_t>(i)], tableRows);
            const float* c = cosine + position * half;
            const float* s = sine + position * half;
            for (std::int64_t h = 0; h < x.heads; ++h) {
                const float* from = x.data + i / x.rows * x.strides.batch + h * x.strides.head + i % x.rows * x.strides.row;
                float* to = y + i / x.rows * yStrides.batch + h * yStrides.head + i % x.rows * yStrides.row;
                const bool pairs = layout == RotaryLayout::interleaved;
                for (std::int64_t e = 0; e < half; ++e) {
                    const std::int64_t a = pairs ? 2 * e : e;
                    const std::int64_t b = pairs ? 2 * e + 1 : e + half;
                    const float real = from[a];
                    const float imaginary = from[b];
                    to[a] = c[e] * real - s[e] * imaginary;
                    to[b] = s[e] * real + c[e] * imaginary;
                }
                for (std::int64_t e = turned; e < x.size; ++e) to[e] = from[e];
            }
        }
    });
}

/// Position of every row: given as [1] (the first one's), [batch, rows], or not at all (the tables hold one row a position of
/// the input).
std::vector<std::int64_t> positionsOf(const Tensor* ids, std::int64_t batch, std::int64_t rows) {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(batch * rows));
    std::vector<std::int64_t> given = ids ? integers(*ids) : std::vector<std::int64_t>{};
    if (given.size() == positions.size() && !given.empty() && !(given.size() == 1 && rows > 1)) return given;
    for (std::size_t i = 0; i < positions.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i);
        positions[i] = given.size() == 1 ? given[0] + row % rows : row;
    }
    return positions;
}

struct RotaryInputs {
    std::size_t positions, cosines, sines;
};

Runner rotaryRunner(const NodeInfo& info, RotaryInputs at) {
    const std::int64_t heads = info.attributes.integer("num_heads", 0);
    const std::int64_t dimension = info.attributes.integer("rotary_embedding_dim", 0);
    const RotaryLayout layout =
        info.attributes.integer("interleaved", 0) ? RotaryLayout::interleaved : RotaryLayout::halves;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& cosines = context.input(at.cosines);
        if (x.rank() < 1 || cosines.rank() < 1 || cosines.shape().back() == 0) {
            throw ModelError(fmt::format("tables of shape {} do not fit {}", toString(cosines.shape()), toString(x.shape())));
        }
        // Without a head count a 3-d input is cut into heads of the size the tables tell.
        const std::int64_t size = dimension > 0 && heads > 0 ? x.shape().back() / heads : cosines.shape().back() * 2;
        const std::int64_t count = x.rank() == 3 ? (heads > 0 ? heads : x.shape().back() / size) : 0;
        const Heads view = headsOf(x, count);
        float* y = context.output<float>(0, x.shape()).data();
        rotate(view, y, view.strides, cosines, context.input(at.sines),
               positionsOf(context.optionalInput(at.positions), view.batch, view.rows), layout, dimension);
    };
}

}  // namespace

Heads rotateHeads(OpContext& context, const Heads& heads, const Tensor& cosines, const Tensor& sines,
                  const std::vector<std::int64_t>& positions, RotaryLayout layout, std::int64_t dimension, Tensor* owner) {
    std::byte* elements = nullptr;
    *owner = context.temporary(DType::float32, {heads.batch, heads.rows, heads.heads, heads.size}, &elements);
    Heads result = heads;
    result.data = reinterpret_cast<const float*>(elements);
    result.strides = rowMajorHeads(heads.rows, heads.heads, heads.size);
    rotate(heads, reinterpret_cast<float*>(elements), result.strides, cosines, sines, positions, layout, dimension);
    return result;
}

Runner makeRotaryEmbedding(const NodeInfo& info) { return rotaryRunner(info, {3, 1, 2}); }
Runner makeContribRotaryEmbedding(const NodeInfo& info) { return rotaryRunner(info, {1, 2, 3}); }

}  // namespace tcompress::exec
