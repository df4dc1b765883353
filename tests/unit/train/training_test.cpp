// Training against its definitions: Adam by its recurrences, losses and their gradients by differences, and a model that
// learns what another one knows.

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "lib/train/trainer.h"
#include "tests/support/text_model.h"

namespace tcompress::train {
namespace {

Tensor randomTensor(const Shape& shape, Random& random) {
    Tensor tensor(DType::float32, shape);
    for (float& value : tensor.mutableData<float>()) value = static_cast<float>(random.normal());
    return tensor;
}

ir::Model twoLayers() {
    return test::modelFromText(R"(<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,3,4] x) => (float[n,3,5] y)
        <float[4,8] w, float[8] b, float[8,5] v>
        { u = MatMul (x, w) s = Add (u, b) [tanh] h = Tanh (s) y = MatMul (h, v) })");
}

struct Problem {
    ir::Model model = twoLayers();
    exec::Feeds feeds;
    Targets targets;

    explicit Problem(std::uint64_t seed = 3) {
        Random random(seed, "training test");
        feeds["x"] = randomTensor({2, 3, 4}, random);
        for (const std::int64_t channels : {5, 8}) {
            targets.values.push_back(randomTensor({2, 3, channels}, random));
            targets.rowWeights.push_back(Tensor::of<float>({2, 3, 1}, {0.5F, 0.0F, 1.0F, 0.25F, 2.0F, 1.0F}));
        }
    }
};

double lossAt(const Problem& problem, const std::vector<LossTerm>& terms, const std::string& constant, const Tensor& value) {
    const FedConstants fed = withFedConstants(problem.model, {constant});
    std::vector<const ir::Value*> outputs;
    for (const LossTerm& term : terms) outputs.push_back(fed.model.graph().find(term.value));
    exec::Executor executor(fed.model, {.inputs = {fed.model.graph().find(fed.values.at(constant))}, .outputs = outputs});
    exec::Feeds feeds = problem.feeds;
    feeds[fed.values.at(constant)] = value;
    const std::vector<Tensor> values = executor.run(feeds);
    double loss = 0;
    for (std::size_t i = 0; i < terms.size(); ++i) loss += lossOf(terms[i], values[i], problem.targets.values[i], problem.targets.rowWeights[i]);
    return loss;
}

}  // namespace

TEST_CASE("Adam moves weights as its recurrences say", "[train]") {
    const AdamOptions options{0.8, 0.9, 1e-6, 0.1};
    Adam adam(Zeros::learn, options);
    std::vector<float> weights = {1.0F, -2.0F, 0.0F};
    std::vector<double> w(weights.begin(), weights.end()), m(3), v(3);
    for (int t = 1; t <= 5; ++t) {
        const std::vector<float> gradient = {0.5F * static_cast<float>(t), -1.0F, 0.25F};
        adam.step(weights, gradient, 0.01);
        for (std::size_t i = 0; i < 3; ++i) {
            const auto g = static_cast<double>(gradient[i]);
            m[i] = 0.8 * m[i] + 0.2 * g;
            v[i] = 0.9 * v[i] + 0.1 * g * g;
            w[i] -= 0.01 * (m[i] / (1 - std::pow(0.8, t)) / (std::sqrt(v[i] / (1 - std::pow(0.9, t))) + 1e-6) + 0.1 * w[i]);
            CHECK(static_cast<double>(weights[i]) == Approx(w[i]).epsilon(1e-5));
        }
    }
}

TEST_CASE("Zeros that stay are left out, others learn", "[train]") {
    for (const Zeros zeros : {Zeros::learn, Zeros::stay}) {
        Adam adam(zeros);
        std::vector<float> weights = {0.0F, 1.0F};
        adam.step(weights, std::vector<float>{1.0F, 1.0F}, 0.1);
        CHECK(weights[0] == Approx(zeros == Zeros::stay ? 0.0F : -0.1F));
        CHECK(weights[1] == Approx(0.9F));
    }
}

TEST_CASE("Losses are sums over rows by weight", "[train]") {
    const Tensor y = Tensor::of<float>({2, 2}, {1, 2, 0, 0}), t = Tensor::of<float>({2, 2}, {0, 0, std::log(3.0F), 0}), w = Tensor::of<float>({2, 1}, {0.5F, 2});
    CHECK(lossOf({"", Distance::squared}, y, t, w) == Approx(0.5 * 5 + 2 * std::log(3.0) * std::log(3.0)));
    // The second row: KL of (3/4, 1/4) from (1/2, 1/2).
    const double second = 0.75 * std::log(1.5) + 0.25 * std::log(0.5);
    CHECK(lossOf({"", Distance::divergence}, y, t, Tensor::of<float>({2, 1}, {0, 2})) == Approx(2 * second));
    CHECK(std::isinf(lossOf({"", Distance::squared}, Tensor::of<float>({1, 2}, {NAN, 0}), Tensor::of<float>({1, 2}, {0, 0}), Tensor::of<float>({1, 1}, {1}))));
}

TEST_CASE("The graph's gradients are the slopes of the losses", "[train]") {
    const Problem problem;
    const LossTerm first = GENERATE(LossTerm{"y", Distance::squared, 1}, LossTerm{"y", Distance::divergence, 1}, LossTerm{"y", Distance::divergence, 3});
    const std::vector<LossTerm> terms = {first, {"h", Distance::squared, 1}};
    const std::vector<std::string> constants = {"w", "b", "v"};
    const TrainingGraph graph = trainingGraph(problem.model, constants, terms, problem.feeds);
    REQUIRE(graph.gradients.size() == 3);
    std::vector<const ir::Value*> inputs, outputs;
    exec::Feeds feeds = problem.feeds;
    const auto feed = [&](const std::string& name, const Tensor& tensor) {
        inputs.push_back(graph.model.graph().find(name));
        feeds[name] = tensor;
    };
    for (std::size_t i = 0; i < terms.size(); ++i) {
        feed(graph.targets[i], problem.targets.values[i]);
        feed(graph.rowWeights[i], problem.targets.rowWeights[i]);
    }
    for (const std::string& constant : constants) {
        feed(graph.parameters.at(constant), *problem.model.graph().find(constant)->constant());
        outputs.push_back(graph.model.graph().find(graph.gradients.at(constant)));
    }
    exec::Executor executor(graph.model, {.inputs = inputs, .outputs = outputs});
    const std::vector<Tensor> gradients = executor.run(feeds);
    for (std::size_t i = 0; i < constants.size(); ++i) {
        const Tensor& at = *problem.model.graph().find(constants[i])->constant();
        REQUIRE(gradients[i].shape() == at.shape());
        for (const std::size_t element : {std::size_t{0}, static_cast<std::size_t>(at.size()) - 1}) {
            constexpr float kStep = 4e-3F;
            Tensor up = at, down = at;
            up.mutableData<float>()[element] += kStep;
            down.mutableData<float>()[element] -= kStep;
            const double slope = (lossAt(problem, terms, constants[i], up) - lossAt(problem, terms, constants[i], down)) / (2 * static_cast<double>(kStep));
            CHECK(static_cast<double>(gradients[i].data<float>()[element]) == Approx(slope).epsilon(5e-3).margin(5e-3));
        }
    }
}

TEST_CASE("A model learns what another one gives, the same for any number of threads", "[train]") {
    Problem problem;
    const ir::Model teacher = twoLayers();
    const std::vector<LossTerm> terms = {{"y", Distance::squared, 1}};
    // The teacher knows other weights of the last layer.
    const FedConstants fed = withFedConstants(teacher, {"v"});
    exec::Executor executor(fed.model, {.inputs = {fed.model.graph().find(fed.values.at("v"))}});
    Random random(11, "teacher");
    const Tensor goal = randomTensor({8, 5}, random);
    std::map<int, Tensor> learnt;
    for (const int threads : {1, 2, 4}) {
        setThreadCount(threads);
        Trainer trainer(problem.model, {"v"}, terms);
        Random data(5, "data");
        constexpr int kSteps = 400;
        double first = 0, last = 0;
        for (int step = 0; step < kSteps; ++step) {
            exec::Feeds feeds = {{"x", randomTensor({8, 3, 4}, data)}};
            exec::Feeds taught = feeds;
            taught[fed.values.at("v")] = goal;
            Targets targets{{executor.run(taught)[0]}, {}};
            Tensor weights(DType::float32, {8, 3, 1});
            for (float& weight : weights.mutableData<float>()) weight = 1 / 24.0F;
            targets.rowWeights.push_back(weights);
            last = trainer.step(feeds, targets, 0.05 * (1 - step / static_cast<double>(kSteps)));
            if (step == 0) first = last;
        }
        CHECK(last < 0.02 * first);
        learnt[threads] = trainer.weights().at("v");
        trainer.restart();
        CHECK(trainer.weights().at("v").sharesBytesWith(*problem.model.graph().find("v")->constant()));
    }
    setThreadCount(0);
    for (const int threads : {2, 4}) CHECK(std::equal(learnt[1].bytes().begin(), learnt[1].bytes().end(), learnt[threads].bytes().begin()));
}

TEST_CASE("A batch that is not finite moves nothing", "[train]") {
    Problem problem;
    Trainer trainer(problem.model, {"w", "b", "v"}, {{"y", Distance::squared, 1}, {"h", Distance::squared, 1}});
    CHECK(std::isfinite(trainer.step(problem.feeds, problem.targets, 0.1)));
    const Tensor before = trainer.weights().at("w");
    problem.feeds["x"].mutableData<float>()[0] = NAN;
    CHECK(std::isinf(trainer.step(problem.feeds, problem.targets, 0.1)));
    CHECK(trainer.weights().at("w").sharesBytesWith(before));
}

}  // namespace tcompress::train
