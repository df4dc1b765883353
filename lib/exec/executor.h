#pragma once
// Runs a model on this machine's processor. A plan is made once per Executor: constants folded, patterns fused, weights
// packed, kernels chosen; values live in an arena and are released after their last use. Outputs do not depend on the
// number of threads.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/exec/datum.h"
#include "lib/ir/model.h"
#include "lib/tensor/tensor.h"

namespace tcompress::exec {

/// Arrays by the name of the value they are fed to.
using Feeds = std::map<std::string, Tensor>;

enum class Fusion {
    full,  ///< the fastest plan
    none,  ///< one kernel a node: every value of the graph is computed and can be observed
};

struct ExecutorOptions {
    Fusion fusion = Fusion::full;
    /// Computed values that are fed instead of being computed, beside the graph inputs that are still needed then.
    std::vector<const ir::Value*> inputs;
    /// What run() computes and returns instead of the graph outputs; an empty list: only what the observer wants. Nodes
    /// that nothing of this depends on do not run.
    std::optional<std::vector<const ir::Value*>> outputs;
};

/// Sees chosen values while they are alive. It must not keep the Tensor (its bytes are reused): keep statistics.
class Observer {
  public:
    virtual ~Observer() = default;
    /// Called once per value when the plan is made. A value that is wanted is never fused away.
    virtual bool wants(const ir::Value& value) const = 0;
    virtual void observe(const ir::Value& value, const Tensor& tensor) = 0;
};

class Executor {
  public:
    /// The model must outlive the executor and must not be edited meanwhile. `observer` may be null and must outlive it
    /// too. Throws KernelError naming every operator (node, domain, version) that cannot run.
    explicit Executor(const ir::Model& model, ExecutorOptions options = {}, Observer* observer = nullptr);
    ~Executor();
    Executor(Executor&&) noexcept;

    /// What must be fed: the given inputs, then graph inputs in the graph's order.
    const std::vector<const ir::Value*>& inputs() const;

    /// Computes the outputs in their order. A feed of a graph input that is not needed is ignored. Throws DataError when a
    /// feed is missing, unknown, or of another type or rank than the input declares.
    std::vector<Tensor> run(const Feeds& feeds);
    /// The same where inputs or outputs may be sequences or optionals.
    std::vector<Datum> runData(const std::map<std::string, Datum>& feeds);

    /// One line per operator and kernel with its share of the time, of all run() calls so far.
    struct ProfileRow {
        std::string opType;
        std::string kernel;
        std::int64_t calls = 0;
        double seconds = 0;
    };
    std::vector<ProfileRow> profile() const;

    /// Largest number of bytes held for values at once, over all run() calls so far (weights not counted).
    std::size_t peakArenaBytes() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Operators of the model that no kernel runs: "node 'x': operator Foo of domain 'bar' version 3". Empty when all run.
std::vector<std::string> unsupportedOperators(const ir::Model& model);

/// Computes one node on constant inputs with the executor's own kernels: constant folding. Empty when it cannot run.
std::vector<Tensor> evaluateNode(const ir::Model& model, const ir::Node& node, std::span<const Tensor> inputs);

}  // namespace tcompress::exec
