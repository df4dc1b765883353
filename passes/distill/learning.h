#pragma once
// A run of training, judged on samples that are held back, and the rate at which it learns.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/support/progress.h"
#include "lib/support/random.h"
#include "lib/train/trainer.h"
#include "passes/distill/teacher.h"

namespace tcompress::passes {

/// Batches that weights are judged by, with their targets.
class HeldBack {
  public:
    HeldBack(const ir::Model& model, const data::Dataset& samples, Teacher& teacher);
    /// Loss of the model's outputs, the mean over the batches.
    double error(train::Trainer& trainer) const;

  private:
    struct Batch {
        exec::Feeds feeds;
        train::Targets targets;
    };
    const Teacher& teacher_;
    std::vector<Batch> batches_;
};

/// Everything a run of training needs.
struct Course {
    const ir::Model& model;
    const data::Dataset& samples;
    std::int64_t batchSize;
    Teacher& teacher;
    train::Trainer& trainer;
    const HeldBack& heldBack;
    double before;  ///< error on what is held back of the model as it is
    Random random;
    Progress& progress;
};

struct Learnt {
    double error = 0;       ///< on what is held back, of the weights that are kept
    std::int64_t step = 0;  ///< behind which they were; 0: nothing was better than the model as it is
    std::map<std::string, Tensor> weights;  ///< by constant; empty at step 0
};

/// Starts anew and takes so many steps at a rate that rises to `rate` for a tenth of them and falls to 0 along half a cosine
/// (Loshchilov and Hutter 2017, "SGDR"). Judged `trials` times on the way; the best is kept.
Learnt learn(Course& course, std::int64_t steps, double rate, std::int64_t trials);

/// A rate 10⁻⁴·√10ᵏ by runs of `steps` steps, judged at their ends: up from 10⁻⁴ as long as the next ends nearer to the
/// teacher; where 10⁻⁴ does not end nearer than it began, the first below it that does, or the smallest looked at.
double rateFor(Course& course, std::int64_t steps);

}  // namespace tcompress::passes
