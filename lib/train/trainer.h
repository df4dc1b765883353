#pragma once
// A model that learns: chosen constants of it move down the gradient of losses between its values and given targets.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/train/adam.h"
#include "lib/train/training_graph.h"

namespace tcompress::train {

/// What the terms' values should be on a batch.
struct Targets {
    std::vector<Tensor> values;      ///< float32, of the values' shapes
    std::vector<Tensor> rowWeights;  ///< float32, the same with one channel (see TrainingGraph); 0: the row does not count
};

class Trainer {
  public:
    /// Constants are float32 initializers of the model, which must outlive the trainer. `zeros` by constant: those that are
    /// not in it learn as they are.
    Trainer(const ir::Model& model, std::vector<std::string> constants, std::vector<LossTerm> terms,
            std::map<std::string, Zeros> zeros = {});
    ~Trainer();

    /// One step of Adam on a batch; returns its loss before the step. Where loss or gradients are not finite nothing
    /// moves, and the loss is infinite.
    double step(const exec::Feeds& feeds, const Targets& targets, double rate);
    /// The terms' values with the weights as they are now.
    std::vector<Tensor> values(const exec::Feeds& feeds);
    /// By the constant's name.
    const std::map<std::string, Tensor>& weights() const { return weights_; }
    /// Back to the model's weights, with nothing remembered of steps.
    void restart();

  private:
    struct Batch;  ///< the executor of a graph
    Batch& batchFor(const exec::Feeds& feeds);
    exec::Feeds withWeights(const exec::Feeds& feeds, const std::map<std::string, std::string>& names) const;

    const ir::Model& model_;
    const std::vector<std::string> constants_;
    const std::vector<LossTerm> terms_;
    const std::map<std::string, Zeros> zeros_;
    std::map<std::string, Tensor> weights_;
    std::map<std::string, Adam> states_;
    FedConstants forward_;
    std::unique_ptr<exec::Executor> forwardExecutor_;
    std::map<std::vector<Shape>, TrainingGraph> graphs_;  ///< by the shapes of the feeds
    std::unique_ptr<Batch> batch_;
};

}  // namespace tcompress::train
