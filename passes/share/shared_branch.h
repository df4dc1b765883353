#pragma once
// Weights that several feed-forward or attention layers can share, fitted in closed form on what the layers gave in the reference.
//
// Two ways to the shared units (neurons, heads), the better on held-back rows is taken:
//   averages  the layers' units are matched one to one by their weights (assignment.h) and averaged;
//   pool      each layer gives those units that its own output can least do without (obs.h), as many in all as one
//             layer has.
// Then every layer may use every unit: the shared down matrix and each layer's scale of every input of it are solved for
// together (shared_fit.h), on the edited model, so that later layers see what earlier ones lost.

#include <optional>
#include <string>
#include <vector>

#include "lib/data/split.h"
#include "passes/share/branch_weights.h"
#include "passes/share/shared_fit.h"
#include "passes/support/evidence.h"

namespace tcompress::passes {

class SharedBranch {
  public:
    /// The layers' weights are those of `model`; `reference` has the values to come near to. `units`: what reports call them.
    SharedBranch(ir::Model& model, const ir::Model& reference, std::vector<BranchWeights> layers, std::string units);

    /// Chooses the units, writes each layer's copy of the shared weights with its scales taken in.
    void choose(const data::Split& samples, const calibration::Environment& environment);
    /// Solves again on what the layers read now; kept where it is better on held-back rows.
    void refit(const data::Split& samples, const calibration::Environment& environment);
    /// Makes the averages, without data: of units as they are numbered, scales 1.
    void average();
    /// Puts one set of weights, and a product with its scales where they are not 1, in the place of every layer's own.
    void share(ir::Edit& edit) const;

    const std::vector<BranchWeights>& layers() const { return layers_; }
    /// Error of each layer's output on held-back rows, relative to it; empty without data.
    const std::vector<double>& errors() const { return errors_; }
    /// The same of plain averages.
    const std::vector<double>& plainErrors() const { return plainErrors_; }
    /// "averages of matched neurons", "neurons of all layers: 801, 735".
    const std::string& way() const { return way_; }

  private:
    struct Solution {
        SharedWeights shared;
        std::vector<LinearLayer> downs;  ///< of each layer, scales taken in
        std::vector<double> errors;
        double total() const;
    };
    std::vector<Evidence> gather(const data::Split& samples, const calibration::Environment& environment) const;
    Solution solve(const std::vector<Evidence>& evidence, const SharedWeights& start) const;
    void write(const UnitPlan& plan, const SharedWeights& shared);
    void write(const std::vector<LinearLayer>& downs);
    std::vector<double> errorsNow(const std::vector<Evidence>& evidence) const;
    UnitPlan matched() const;
    UnitPlan pooled(const std::vector<Evidence>& evidence, SharedWeights& start);

    ir::Model& model_;
    const ir::Model& reference_;
    std::vector<BranchWeights> layers_;
    std::vector<BranchWeights> original_;
    std::string units_;
    std::vector<RefitChoice> choices_;  ///< ridge and target of each layer, found on its own weights
    SharedWeights shared_;
    std::vector<double> errors_, plainErrors_;
    std::string way_;
};

}  // namespace tcompress::passes
