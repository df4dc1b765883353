#pragma once
// A plan that runs: operators made, lifetimes known. The main graph is a Program, and so is each sub-graph body.

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/exec/operator.h"
#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

/// Time by operator, shared by a Program and its sub-programs.
class Profile {
  public:
    enum class Detail { operators, kernels };
    struct Time {
        std::int64_t calls = 0;
        double seconds = 0;
    };
    struct Entry : Time {
        bool watchesKernels = false;
        std::map<std::string, Time> byKernel;                                    ///< names joined by " + "
        std::map<std::pair<std::string, std::string>, std::int64_t> refusals;  ///< calls, by kernel and reason
    };
    explicit Profile(Detail detail = Detail::operators) : detail_(detail) {}

    Entry* entry(const std::string& operatorName) {
        Entry& entry = entries_[operatorName];
        entry.watchesKernels = detail_ == Detail::kernels;
        return &entry;
    }
    const std::map<std::string, Entry>& entries() const { return entries_; }
    /// Forgets what was measured; entries stay where they are.
    void clear() {
        for (auto& [name, entry] : entries_) entry = Entry{{}, entry.watchesKernels, {}, {}};
    }

  private:
    Detail detail_;
    std::map<std::string, Entry> entries_;
};

class Program {
  public:
    enum class Use {
        repeated,  ///< weights are packed when the plan is made
        once       ///< large weights are packed when their node runs, and go after it
    };
    /// Makes the operators of every node. Throws KernelError with one line for each node that cannot run.
    /// `observer` (may be null) sees the values whose `source` it wants; they must be kept.
    Program(PlanGraph graph, Profile& profile, Observer* observer, Use use = Use::repeated);
    Program(const Program&) = delete;  // steps point into the graph
    /// Pages of a mapped file that its constants brought into memory go with it.
    ~Program();

    std::size_t inputCount() const { return graph_.inputs.size(); }
    std::size_t outputCount() const { return graph_.outputs.size(); }
    /// Inputs in the graph's order; so are the outputs.
    std::vector<Datum> run(Allocator& allocator, std::vector<Datum> inputs) const;

  private:
    struct Step {
        Runner run;
        std::vector<ValueId> inputs;
        std::vector<ValueId> outputs;
        std::vector<std::uint8_t> wanted;  // by output
        std::vector<std::uint8_t> dying;   // by input
        std::vector<ValueId> releases;     // values without a later reader
        FloatSupport floats = FloatSupport::wide;
        DType resultType = DType::undefined;  // what float32 results become: the type of a constant converted to float32
        std::string where;  // for messages
        bool shapeOnly = false;  // needs no run for shapes seen before
        Profile::Entry* profile = nullptr;
    };
    void makeStep(const PlanNode& node, std::vector<std::string>& refusals, Profile& profile);
    NodeInfo infoOf(const PlanNode& node, std::span<const ValueId> inputs) const;
    bool waitsForItsRun(const PlanNode& node, std::span<const ValueId> inputs) const;
    void countReaders();
    void forgetPacked(ValueId id);
    void findLifetimes();
    void findShapeOnlySteps();
    void dropUnreadConstants();
    void runStep(const Step& step, Allocator& allocator, std::vector<Datum>& slots) const;
    void observe(ValueId id, const Tensor& tensor) const;

    PlanGraph graph_;
    Use use_;
    std::vector<Datum> constants_;  // by value
    std::vector<Step> steps_;
    Observer* observer_ = nullptr;
    std::vector<std::uint8_t> observed_;  // by value
    std::vector<std::int32_t> readers_;   // by value: inputs of nodes that are still to be made, and outputs

    /// Values that depend on the shapes of the inputs alone, by those shapes.
    using ShapeKey = std::vector<Shape>;
    using Remembered = std::vector<std::pair<ValueId, Datum>>;
    bool remembers_ = false;
    std::vector<std::uint8_t> frontier_;  // by value: made by a shape-only step, read by others
    mutable std::map<ShapeKey, Remembered> memory_;
    mutable std::size_t rememberedBytes_ = 0;
    void remember(ShapeKey key, Remembered values) const;
};

/// Of outputs that have to be tensors. Throws KernelError when one is none.
std::vector<Tensor> tensorsOf(std::vector<Datum> values);

/// Name for messages: "node 'x': operator Foo of domain 'bar' version 3".
std::string describeNode(const PlanNode& node);

}  // namespace tcompress::exec
