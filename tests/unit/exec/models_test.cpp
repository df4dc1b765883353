// The small models of tests/data/models against ONNX Runtime's outputs (tests/data/exec, written by
// tests/backend/make_references.py), in every way the executor can run them.

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "kernels/table.h"
#include "lib/data/readers.h"
#include "lib/exec/executor.h"
#include "lib/exec/fitting_executor.h"
#include "lib/exec/run_once.h"
#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/support/parallel.h"

namespace {

using namespace tcompress;

struct Case {
    std::string model, name;
};

/// Reference NAME of model MODEL: "MODEL" or "MODEL.WHAT" in the file names.
std::vector<Case> cases() {
    std::set<std::string> names;
    const std::string ending = ".feeds.npz";
    for (const auto& entry : std::filesystem::directory_iterator(std::string(TCOMPRESS_TEST_DATA) + "/exec")) {
        const std::string file = entry.path().filename().string();
        if (file.size() > ending.size() && file.ends_with(ending)) names.insert(file.substr(0, file.size() - ending.size()));
    }
    std::vector<Case> found;
    for (const std::string& name : names) found.push_back({name.substr(0, name.find('.')), name});
    return found;
}

ir::Model loadModel(const std::string& name) { return ir::load(std::string(TCOMPRESS_TEST_DATA) + "/models/" + name + ".onnx"); }

exec::Feeds feedsOf(const std::string& name) { return data::readNpz(std::string(TCOMPRESS_TEST_DATA) + "/exec/" + name + ".feeds.npz"); }

/// Largest difference relative to the range of the expected output.
double relativeError(const Tensor& found, const Tensor& expected) {
    REQUIRE(found.dtype() == expected.dtype());
    REQUIRE(found.shape() == expected.shape());
    const std::vector<float> a = toFloat32(found);
    const std::vector<float> b = toFloat32(expected);
    if (a.empty()) return 0;
    const auto [low, high] = std::minmax_element(b.begin(), b.end());
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
    return std::isnan(worst) ? 1 : worst / std::max(1e-30F, *high - *low);
}

void checkAgainstReference(const Case& c, exec::Fusion fusion, exec::Observer* observer = nullptr) {
    const ir::Model model = loadModel(c.model);
    exec::Executor executor(model, {fusion}, observer);
    const auto expected = data::readNpz(std::string(TCOMPRESS_TEST_DATA) + "/exec/" + c.name + ".expected.npz");
    // Twice: the second run takes what depends on shapes alone from the first.
    for (int run = 0; run < 2; ++run) {
        const std::vector<Tensor> outputs = executor.run(feedsOf(c.name));
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const std::string& output = model.graph().outputs()[i]->name();
            INFO(c.name << " output " << output << " run " << run);
            CHECK(relativeError(outputs[i], expected.at(output)) < 1e-4);
        }
    }
}

TEST_CASE("A model that runs once gives the bytes of one that may run again") {
    for (const Case& c : cases()) {
        const ir::Model model = loadModel(c.model);
        exec::Executor executor(model);
        const std::vector<Tensor> again = executor.run(feedsOf(c.name)), once = exec::runOnce(model, feedsOf(c.name));
        REQUIRE(once.size() == again.size());
        for (std::size_t i = 0; i < once.size(); ++i) {
            INFO(c.name);
            CHECK(std::ranges::equal(once[i].bytes(), again[i].bytes()));
        }
    }
}

TEST_CASE("A model whose weights do not fit into memory runs again and again, and gives the same bytes") {
    for (const Case& c : cases()) {
        INFO(c.name);
        const ir::Model model = loadModel(c.model);
        exec::FittingExecutor whole(model), lean(model, exec::packedWeightBytes(model));
        CHECK(whole.keepsWeights());
        CHECK(lean.keepsWeights() == (exec::packedWeightBytes(model) == 0));
        const std::vector<Tensor> expected = whole.run(feedsOf(c.name));
        for (int run = 0; run < 2; ++run) {
            const std::vector<Tensor> outputs = lean.run(feedsOf(c.name));
            REQUIRE(outputs.size() == expected.size());
            for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(std::ranges::equal(outputs[i].bytes(), expected[i].bytes()));
        }
    }
}

TEST_CASE("Packed weights are those that products read, float16 as float32") {
    ir::Model model = ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
        g (int64[n] ids, float[1000, 256] table, float16[n, 256] x, float16[256, 256] w) => (float[n, 256] rows, float16[n, 256] y)
        {
            rows = Gather(table, ids)
            y = MatMul(x, w)
        })");
    ir::Edit edit(model, "test");
    ir::Node *gather = model.graph().nodes()[0].get(), *product = model.graph().nodes()[1].get();
    edit.replaceInput(gather, 0, edit.addInitializer("rows", Tensor(DType::float32, {1000, 256})));
    edit.replaceInput(product, 1, edit.addInitializer("weight", Tensor(DType::float16, {256, 256})));
    edit.commit();
    CHECK(exec::packedWeightBytes(model) == 256 * 256 * 4);
    ir::Model single = model.clone();
    ir::Edit narrow(single, "test");
    narrow.setConstant(single.graph().find("weight"), Tensor(DType::float32, {256, 256}));
    narrow.commit();
    CHECK(exec::packedWeightBytes(single) == 256 * 256 * 4);
    CHECK(exec::weightsFit(model, 1 << 20));
    CHECK_FALSE(exec::weightsFit(model, 256 * 256 * 4));
    // As float32 they are in memory whatever the plan.
    CHECK_THROWS_WITH(exec::FittingExecutor(model, 200'000), Catch::Contains("float16 weights take 0.3 MB as float32"));
    CHECK_FALSE(exec::FittingExecutor(single, 200'000).keepsWeights());
}

TEST_CASE("Models give ONNX Runtime's outputs, node by node") {
    REQUIRE(cases().size() >= 10);
    for (const Case& c : cases()) checkAgainstReference(c, exec::Fusion::none);
}

TEST_CASE("Models give ONNX Runtime's outputs with the fused plan") {
    for (const Case& c : cases()) checkAgainstReference(c, exec::Fusion::full);
}

TEST_CASE("Models give ONNX Runtime's outputs with the reference kernels") {
    kernels::setKernelChoice(kernels::KernelChoice::reference);
    for (const Case& c : cases()) checkAgainstReference(c, exec::Fusion::full);
    kernels::setKernelChoice(kernels::KernelChoice::fastest);
}

TEST_CASE("The number of threads changes no bit") {
    for (const Case& c : cases()) {
        const ir::Model model = loadModel(c.model);
        const exec::Feeds feeds = feedsOf(c.name);
        std::vector<Tensor> first;
        for (int threads : {1, 2, 3, 8}) {
            setThreadCount(threads);
            const std::vector<Tensor> outputs = exec::Executor(model).run(feeds);
            if (first.empty()) first = outputs;
            for (std::size_t i = 0; i < outputs.size(); ++i) {
                INFO(c.name << " output " << i << " on " << threads << " threads");
                CHECK(std::ranges::equal(outputs[i].bytes(), first[i].bytes()));
            }
        }
    }
    setThreadCount(0);
}

/// Wants everything and keeps the norm of each value.
class AllValues : public exec::Observer {
  public:
    bool wants(const ir::Value&) const override { return true; }
    void observe(const ir::Value& value, const Tensor& tensor) override {
        if (tensor.dtype() != DType::float32) return;
        double sum = 0;
        for (float x : tensor.data<float>()) sum += std::isfinite(x) ? std::abs(x) : 1;
        norms[value.name()] = sum;
    }
    std::map<std::string, double> norms;
};

TEST_CASE("An observer sees the same values whatever is fused") {
    for (const Case& c : cases()) {
        AllValues plain;
        AllValues fused;
        checkAgainstReference(c, exec::Fusion::none, &plain);
        checkAgainstReference(c, exec::Fusion::full, &fused);
        REQUIRE(!plain.norms.empty());
        for (const auto& [name, norm] : plain.norms) {
            INFO(c.name << " value " << name);
            REQUIRE(fused.norms.contains(name));
            CHECK(fused.norms[name] == Approx(norm).epsilon(1e-3).margin(1e-3));
        }
    }
}

/// Wants one value in the middle of what fusion would take away.
class OneValue : public exec::Observer {
  public:
    explicit OneValue(std::string name) : name_(std::move(name)) {}
    bool wants(const ir::Value& value) const override { return value.name() == name_; }
    void observe(const ir::Value&, const Tensor& tensor) override { seen = tensor.size(); }
    std::int64_t seen = -1;

  private:
    std::string name_;
};

TEST_CASE("A wanted value is not fused away") {
    const ir::Model model = loadModel("bert_tiny");
    int checked = 0;
    for (const auto& node : model.graph().nodes()) {
        if (!node->is("Softmax") && !node->is("Erf") && !node->is("MatMul")) continue;
        OneValue observer(node->output()->name());
        exec::Executor executor(model, {}, &observer);
        executor.run(feedsOf("bert_tiny"));
        INFO(node->output()->name());
        CHECK(observer.seen > 0);
        ++checked;
    }
    CHECK(checked > 10);
}

}  // namespace
