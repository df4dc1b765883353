// RNN, GRU and LSTM, in one or both directions. A task is one row of the batch in one direction; within it the steps follow each
// other, each a product of a matrix and a vector.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using Function = std::function<float(float)>;

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

/// The functions of one node, in the order of its attributes; each takes its alpha and beta from the lists when it has them.
class FunctionReader {
  public:
    explicit FunctionReader(const Attributes& attributes)
        : alphas_(attributes.reals("activation_alpha").value_or(std::vector<float>{})),
          betas_(attributes.reals("activation_beta").value_or(std::vector<float>{})) {}

    Function read(const std::string& name) {
        if (name == "Sigmoid") return sigmoid;
        if (name == "Tanh") return [](float x) { return std::tanh(x); };
        if (name == "Relu") return [](float x) { return std::max(0.0F, x); };
        if (name == "Softsign") return [](float x) { return x / (1 + std::abs(x)); };
        if (name == "Softplus") return [](float x) { return std::max(0.0F, x) + std::log1p(std::exp(-std::abs(x))); };
        if (name == "LeakyRelu") return [a = alpha(0.01F)](float x) { return x < 0 ? a * x : x; };
        if (name == "ThresholdedRelu") return [a = alpha(1.0F)](float x) { return x > a ? x : 0; };
        if (name == "Elu") return [a = alpha(1.0F)](float x) { return x < 0 ? a * std::expm1(x) : x; };
        if (name == "Affine") return [a = alpha(1.0F), b = beta(0.0F)](float x) { return a * x + b; };
        if (name == "ScaledTanh") return [a = alpha(1.0F), b = beta(1.0F)](float x) { return a * std::tanh(b * x); };
        if (name == "HardSigmoid") return [a = alpha(0.2F), b = beta(0.5F)](float x) { return std::clamp(a * x + b, 0.0F, 1.0F); };
        throw KernelError(fmt::format("the activation '{}' is unknown", name));
    }

  private:
    float alpha(float fallback) { return nextAlpha_ < alphas_.size() ? alphas_[nextAlpha_++] : fallback; }
    float beta(float fallback) { return nextBeta_ < betas_.size() ? betas_[nextBeta_++] : fallback; }

    std::vector<float> alphas_, betas_;
    std::size_t nextAlpha_ = 0, nextBeta_ = 0;
};

enum class Cell { rnn, gru, lstm };
enum class Way { forward, reverse };
enum class Layout { timeFirst, batchFirst };
enum class Reset { beforeProduct, afterProduct };

struct CellTraits {
    std::int64_t gates;
    std::vector<std::string> functions;
};
CellTraits traitsOf(Cell cell) {
    switch (cell) {
        case Cell::rnn: return {1, {"Tanh"}};
        case Cell::gru: return {3, {"Sigmoid", "Tanh"}};
        case Cell::lstm: break;
    }
    return {4, {"Sigmoid", "Tanh", "Tanh"}};
}

/// What one direction does at every step; the pointers are to its part of the weights.
struct Direction {
    Way way = Way::forward;
    std::vector<Function> functions;
    const float *w = nullptr, *r = nullptr;   // [gates · hidden, input], [gates · hidden, hidden]
    const float *wBias = nullptr, *rBias = nullptr, *peepholes = nullptr;  // may be null
    std::int64_t input = 0, hidden = 0;
    float clip = std::numeric_limits<float>::infinity();
    Reset reset = Reset::beforeProduct;
    bool couplesForget = false;

    float clipped(float x) const { return std::clamp(x, -clip, clip); }
};

struct State {
    std::vector<float> h, c;
};

/// y[i] = bias[i] + Σ_k matrix[i, k] · x[k]
void affine(const float* matrix, const float* bias, const float* x, std::int64_t rows, std::int64_t columns, float* y) {
    for (std::int64_t i = 0; i < rows; ++i) {
        float sum = bias ? bias[i] : 0.0F;
        for (std::int64_t k = 0; k < columns; ++k) sum += matrix[i * columns + k] * x[k];
        y[i] = sum;
    }
}

/// `fromX` and `fromH`: the products of the gates with the input and with the state, biases added.
void stepRnn(const Direction& d, const float* fromX, const float* fromH, State& state) {
    for (std::size_t i = 0; i < state.h.size(); ++i) state.h[i] = d.functions[0](d.clipped(fromX[i] + fromH[i]));
}

/// Gates z, r, h.
void stepGru(const Direction& d, const float* fromX, const float* fromH, State& state) {
    const std::size_t n = state.h.size();
    std::vector<float> reset(n), candidate(n);
    for (std::size_t i = 0; i < n; ++i) reset[i] = d.functions[0](d.clipped(fromX[n + i] + fromH[n + i]));
    if (d.reset == Reset::afterProduct) {
        for (std::size_t i = 0; i < n; ++i) candidate[i] = reset[i] * fromH[2 * n + i];
    } else {
        std::vector<float> kept(n);
        for (std::size_t i = 0; i < n; ++i) kept[i] = reset[i] * state.h[i];
        affine(d.r + 2 * n * n, d.rBias ? d.rBias + 2 * n : nullptr, kept.data(), d.hidden, d.hidden, candidate.data());
    }
    for (std::size_t i = 0; i < n; ++i) {
        const float update = d.functions[0](d.clipped(fromX[i] + fromH[i]));
        const float fresh = d.functions[1](d.clipped(fromX[2 * n + i] + candidate[i]));
        state.h[i] = (1 - update) * fresh + update * state.h[i];
    }
}

/// Gates i, o, f, c.
void stepLstm(const Direction& d, const float* fromX, const float* fromH, State& state) {
    const std::size_t n = state.h.size();
    for (std::size_t i = 0; i < n; ++i) {
        const auto gate = [&](std::size_t index, float peephole) { return d.clipped(fromX[index * n + i] + fromH[index * n + i] + peephole); };
        const auto peek = [&](std::size_t index) { return d.peepholes ? d.peepholes[index * n + i] * state.c[i] : 0.0F; };
        const float forget = d.functions[0](gate(2, peek(2)));
        const float take = d.couplesForget ? 1 - forget : d.functions[0](gate(0, peek(0)));
        state.c[i] = forget * state.c[i] + take * d.functions[1](gate(3, 0));
        const float open = d.functions[0](gate(1, peek(1)));
        state.h[i] = open * d.functions[2](state.c[i]);
    }
}

void step(Cell cell, const Direction& d, const float* fromX, const float* fromH, State& state) {
    switch (cell) {
        case Cell::rnn: return stepRnn(d, fromX, fromH, state);
        case Cell::gru: return stepGru(d, fromX, fromH, state);
        case Cell::lstm: return stepLstm(d, fromX, fromH, state);
    }
}

void requireShape(const Tensor* tensor, const Shape& shape, std::string_view what) {
    if (tensor && tensor->shape() != shape) {
        throw ModelError(fmt::format("{} has shape {} where {} is needed", what, toString(tensor->shape()), toString(shape)));
    }
}

/// Inputs X, W, R, [B], [lengths], [initial h], [initial c], [peepholes]; outputs Y, last h, last c.
template <Cell cell>
Runner makeRecurrent(const NodeInfo& info) {
    const CellTraits traits = traitsOf(cell);
    const std::string direction = info.attributes.text("direction", "forward");
    const std::vector<Way> ways = direction == "bidirectional" ? std::vector{Way::forward, Way::reverse}
                                                               : std::vector{direction == "reverse" ? Way::reverse : Way::forward};
    const Layout layout = info.attributes.integer("layout", 0) ? Layout::batchFirst : Layout::timeFirst;
    std::vector<std::string> names = info.attributes.texts("activations");
    FunctionReader reader(info.attributes);
    std::vector<Direction> prototypes;
    for (std::size_t i = 0; i < ways.size(); ++i) {
        Direction d;
        d.way = ways[i];
        d.clip = info.attributes.real("clip", d.clip);
        d.reset = info.attributes.integer("linear_before_reset", 0) ? Reset::afterProduct : Reset::beforeProduct;
        d.couplesForget = info.attributes.integer("input_forget", 0) != 0;
        for (std::size_t k = 0; k < traits.functions.size(); ++k) {
            const std::size_t at = i * traits.functions.size() + k;
            d.functions.push_back(reader.read(at < names.size() ? names[at] : traits.functions[k]));
        }
        prototypes.push_back(std::move(d));
    }
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        const Tensor& r = context.input(2);
        if (x.rank() != 3 || w.rank() != 3 || r.rank() != 3) throw ModelError("X, W and R have to have three axes");
        const bool batchFirst = layout == Layout::batchFirst;
        const std::int64_t count = static_cast<std::int64_t>(prototypes.size());
        const std::int64_t length = x.shape()[batchFirst ? 1 : 0], batch = x.shape()[batchFirst ? 0 : 1], input = x.shape()[2];
        const std::int64_t hidden = r.shape()[2], rows = traits.gates * hidden;
        const Shape stateShape = batchFirst ? Shape{batch, count, hidden} : Shape{count, batch, hidden};
        const Tensor* bias = context.optionalInput(3);
        const Tensor* initialH = context.optionalInput(5);
        const Tensor* initialC = cell == Cell::lstm ? context.optionalInput(6) : nullptr;
        const Tensor* peepholes = cell == Cell::lstm ? context.optionalInput(7) : nullptr;
        requireShape(&w, {count, rows, input}, "W");
        requireShape(&r, {count, rows, hidden}, "R");
        requireShape(bias, {count, 2 * rows}, "B");
        requireShape(initialH, stateShape, "the initial state");
        requireShape(initialC, stateShape, "the initial cell");
        requireShape(peepholes, {count, 3 * hidden}, "P");
        std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), length);
        if (const Tensor* given = context.optionalInput(4)) {
            requireShape(given, {batch}, "the list of lengths");
            lengths = integers(*given);
            const bool fits = std::ranges::all_of(lengths, [&](std::int64_t l) { return l >= 0 && l <= length; });
            if (!fits) throw DataError(fmt::format("a length lies outside [0, {}]", length));
        }
        const auto y = context.output<float>(0, batchFirst ? Shape{batch, length, count, hidden} : Shape{length, count, batch, hidden});
        std::ranges::fill(y, 0.0F);
        float* lastH = context.outputCount() > 1 ? context.output<float>(1, stateShape).data() : nullptr;
        float* lastC = context.outputCount() > 2 ? context.output<float>(2, stateShape).data() : nullptr;
        parallelFor(count * batch, [&](std::int64_t task) {
            const std::int64_t k = task / batch, b = task % batch;
            Direction d = prototypes[static_cast<std::size_t>(k)];
            d.input = input;
            d.hidden = hidden;
            d.w = w.data<float>().data() + k * rows * input;
            d.r = r.data<float>().data() + k * rows * hidden;
            d.wBias = bias ? bias->data<float>().data() + k * 2 * rows : nullptr;
            d.rBias = bias ? d.wBias + rows : nullptr;
            d.peepholes = peepholes ? peepholes->data<float>().data() + k * 3 * hidden : nullptr;
            const std::int64_t stateAt = (batchFirst ? b * count + k : k * batch + b) * hidden;
            State state{std::vector<float>(static_cast<std::size_t>(hidden)), std::vector<float>(static_cast<std::size_t>(hidden))};
            if (initialH) std::copy_n(initialH->data<float>().data() + stateAt, hidden, state.h.begin());
            if (initialC) std::copy_n(initialC->data<float>().data() + stateAt, hidden, state.c.begin());
            std::vector<float> fromX(static_cast<std::size_t>(rows)), fromH(static_cast<std::size_t>(rows));
            const std::int64_t steps = lengths[static_cast<std::size_t>(b)];
            for (std::int64_t s = 0; s < steps; ++s) {
                const std::int64_t t = d.way == Way::forward ? s : steps - 1 - s;
                const float* element = x.data<float>().data() + (batchFirst ? b * length + t : t * batch + b) * input;
                affine(d.w, d.wBias, element, rows, input, fromX.data());
                affine(d.r, d.rBias, state.h.data(), rows, hidden, fromH.data());
                step(cell, d, fromX.data(), fromH.data(), state);
                const std::int64_t at = batchFirst ? (b * length + t) * count + k : (t * count + k) * batch + b;
                std::ranges::copy(state.h, y.data() + at * hidden);
            }
            if (lastH) std::ranges::copy(state.h, lastH + stateAt);
            if (lastC) std::ranges::copy(state.c, lastC + stateAt);
        });
    };
}

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {"", "RNN", 7, makeRecurrent<Cell::rnn>, kFloatTypes, kSingle},
    {"", "GRU", 7, makeRecurrent<Cell::gru>, kFloatTypes, kSingle},
    {"", "LSTM", 7, makeRecurrent<Cell::lstm>, kFloatTypes, kSingle},
};

}  // namespace

std::span<const OperatorRow> recurrentOperators() { return kRows; }

}  // namespace tcompress::exec
