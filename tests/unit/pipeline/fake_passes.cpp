#include "tests/unit/pipeline/fake_passes.h"

namespace tcompress::pipeline::test {

namespace {

template <class Options>
class IdlePass : public Pass {
  public:
    explicit IdlePass(Options) {}
    PassReport run(ir::Model&, const PassContext&) const override { return {}; }
};

struct DynamicOptions {
    std::int64_t bits = 8;
    bool symmetric = true;
    std::vector<std::string> targets;
};

struct WeightOnlyOptions {
    std::int64_t bits = 8;
    std::int64_t blockSize = 32;
};

struct MagnitudeOptions {
    double sparsity = 0.5;
    std::optional<double> threshold;
    std::string structure = "unstructured";
};

struct NeuronOptions {
    double sparsity = 0.5;
};

struct NoOptions {};

PassInfo named(std::string type, std::string method, bool isDefault) {
    PassInfo info;
    info.type = std::move(type);
    info.method = std::move(method);
    info.summary = "does nothing";
    info.defaultMethod = isDefault;
    return info;
}

}  // namespace

std::vector<PassInfo> fakeRegistry() {
    std::vector<PassInfo> registry;

    OptionTable<DynamicOptions> dynamicTable;
    dynamicTable.option("bits", &DynamicOptions::bits, "width").range(8, 8);
    dynamicTable.option("symmetric", &DynamicOptions::symmetric, "zero point is zero");
    dynamicTable.option("targets", &DynamicOptions::targets, "sites");
    registry.push_back(named("quantize", "dynamic", true));
    bindOptions<IdlePass<DynamicOptions>>(registry.back(), dynamicTable);

    OptionTable<WeightOnlyOptions> weightOnlyTable;
    weightOnlyTable.option("bits", &WeightOnlyOptions::bits, "width").range(2, 8);
    weightOnlyTable.option("block_size", &WeightOnlyOptions::blockSize, "weights per scale")
        .alias("group_size");
    registry.push_back(named("quantize", "weight-only", false));
    bindOptions<IdlePass<WeightOnlyOptions>>(registry.back(), weightOnlyTable);

    OptionTable<MagnitudeOptions> magnitudeTable;
    magnitudeTable.option("sparsity", &MagnitudeOptions::sparsity, "share of zeros").range(0, 1);
    magnitudeTable.option("threshold", &MagnitudeOptions::threshold, "smaller weights go");
    magnitudeTable.option("structure", &MagnitudeOptions::structure, "pattern");
    registry.push_back(named("prune", "magnitude", true));
    bindOptions<IdlePass<MagnitudeOptions>, MagnitudeOptions>(
        registry.back(), magnitudeTable,
        [](const MagnitudeOptions& options, const std::string& pointer, Diagnostics& diagnostics) {
            if (options.threshold && options.structure == "2:4")
                diagnostics.add(pointer + "/threshold", "goes with structure unstructured only");
        });

    OptionTable<NeuronOptions> neuronTable;
    neuronTable.option("sparsity", &NeuronOptions::sparsity, "share of neurons").range(0, 0.99);
    registry.push_back(named("prune", "neuron", false));
    bindOptions<IdlePass<NeuronOptions>>(registry.back(), neuronTable);

    registry.push_back(named("cleanup", "", true));
    bindOptions<IdlePass<NoOptions>>(registry.back(), OptionTable<NoOptions>());
    registry.push_back(named("train", "distill", false));
    bindOptions<IdlePass<NoOptions>>(registry.back(), OptionTable<NoOptions>());
    registry.push_back(named("train", "finetune", false));
    bindOptions<IdlePass<NoOptions>>(registry.back(), OptionTable<NoOptions>());
    return registry;
}

}  // namespace tcompress::pipeline::test
