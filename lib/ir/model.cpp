#include "lib/ir/model.h"

#include <atomic>
#include <unordered_map>
#include <unordered_set>

#include "lib/ir/internals.h"
#include "lib/ir/topology.h"

namespace tcompress::ir {

Model::Model()
    : graph_(std::make_unique<Graph>()), revision_(Internals::nextRevision()), loadedRevision_(revision_) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

std::uint64_t Internals::nextRevision() {
    static std::atomic<std::uint64_t> last = 0;
    return ++last;
}

std::int64_t Model::opset(std::string_view domain) const {
    for (const onnx::OperatorSetIdProto& opset : envelope_.opset_import()) {
        if (normalizedDomain(opset.domain()) == normalizedDomain(std::string(domain))) return opset.version();
    }
    return 0;
}

Model Model::clone() const {
    Model copy;
    copy.envelope_ = envelope_;
    copy.path_ = path_;
    // An edited model's copy is edited too: no state has revision 0.
    if (revision_ != loadedRevision_) copy.loadedRevision_ = 0;

    Graph& target = *copy.graph_;
    std::unordered_map<const Value*, Value*> values{{nullptr, nullptr}};
    for (const auto& [name, value] : Internals::values(*graph_)) {
        auto copied = std::make_unique<Value>(*value);
        values[value.get()] = copied.get();
        Internals::values(target).emplace(name, std::move(copied));
    }
    auto translate = [&](std::vector<Value*>& list) {
        for (Value*& value : list) value = values.at(value);
    };
    for (const std::unique_ptr<Node>& node : graph_->nodes()) {
        auto copied = std::make_unique<Node>(*node);
        translate(Internals::inputs(*copied));
        translate(Internals::outputs(*copied));
        translate(Internals::captured(*copied));
        for (Value* output : copied->outputs()) {
            if (output != nullptr) Internals::producer(*output) = copied.get();
        }
        Internals::nodes(target).push_back(std::move(copied));
    }
    auto copyList = [&](auto list) {
        list(target) = list(*graph_);
        translate(list(target));
    };
    copyList([](Graph & graph) -> auto& { return Internals::inputs(graph); });
    copyList([](Graph & graph) -> auto& { return Internals::outputs(graph); });
    copyList([](Graph & graph) -> auto& { return Internals::initializers(graph); });
    Internals::inputInfo(target) = Internals::inputInfo(*graph_);
    Internals::outputInfo(target) = Internals::outputInfo(*graph_);
    Internals::valueInfo(target) = Internals::valueInfo(*graph_);
    indexGraph(target);
    return copy;
}

std::uint64_t Model::constantBytes() const {
    std::unordered_set<const std::byte*> counted;
    std::uint64_t total = 0;
    for (const Value* value : graph_->values()) {
        const Tensor* data = value->initialValue();
        if (data == nullptr || !counted.insert(data->storage().get()).second) continue;
        total += data->sizeBytes();
    }
    return total;
}

}  // namespace tcompress::ir
