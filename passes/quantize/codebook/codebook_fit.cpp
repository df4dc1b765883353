#include "passes/quantize/codebook/codebook_fit.h"

#include <cmath>

#include "kernels/native/transpose_matrix.h"

namespace tcompress::passes {
namespace {

std::vector<float> inFloat(const std::vector<double>& values) { return {values.begin(), values.end()}; }

class Fitter {
  public:
    Fitter(const LayerProblem& problem, const CodebookOptions& options, const Random& random)
        : Fitter(problem, options, options.entries()) {
        start_ = nearest(random);
    }
    Fitter(const LayerProblem& problem, const CodebookOptions& options, const CodebookMatrix& shared)
        : Fitter(problem, options, Entries::fixed) {
        start_ = shared;
    }

    CodebookFit run() const {
        const Evidence& evidence = problem_.evidence;
        CodebookFit fit;
        if (!options_.errorFeedback) {
            RefitChoice asItIs;
            asItIs.bias = problem_.bias;
            fit.codes = start_;
            fit.layer = layerOf(start_, all_, asItIs);
            fit.error = heldBackError(problem_, layerOf(start_, evidence.fit, asItIs));
            return fit;
        }
        const RefitChoice choice = chosen();
        fit.error = std::sqrt(choice.heldError);
        if (options_.refine > 0) {
            const double refined =
                heldBackError(problem_, layerOf(solved(evidence.fit, choice, options_.refine), evidence.fit, choice));
            fit.refined = refined < fit.error || evidence.held.rows == 0;
            if (fit.refined) fit.error = refined;
        }
        fit.codes = solved(all_, choice, fit.refined ? options_.refine : 0);
        fit.layer = layerOf(fit.codes, all_, choice);
        return fit;
    }

  private:
    Fitter(const LayerProblem& problem, const CodebookOptions& options, Entries entries)
        : problem_(problem),
          options_(options),
          entries_(entries),
          all_(problem.evidence.all()),
          inputs_(all_.inputs),
          outputs_(all_.outputs) {}

    /// The layer's own weights, by what squares of its inputs count.
    CodebookMatrix nearest(Random random) const {
        RefitChoice plain;
        plain.ridge = 0;
        plain.bias = problem_.bias;
        const std::vector<double> h = hessian(all_, plain);
        const std::vector<float> weights = transposed(inFloat(problem_.start.weight), inputs_, outputs_);
        WeightMatrix matrix{weights, outputs_, inputs_, {}};
        for (std::int64_t i = 0; i < inputs_; ++i)
            matrix.importance.push_back(static_cast<float>(h[static_cast<std::size_t>(i * inputs_ + i)]));
        return nearestCodebook(options_, matrix, random);
    }

    RefitChoice chosen() const {
        if (!options_.damp)
            return chooseUnderConstraint(problem_, [this](const LayerSums& sums, const RefitChoice& choice) {
                return layerOf(solved(sums, choice, 0), sums, choice);
            });
        const LayerSums& fit = problem_.evidence.fit;
        RefitChoice choice = chooseShare(problem_.evidence, problem_.start, *options_.damp, problem_.bias);
        choice.heldError = std::pow(heldBackError(problem_, layerOf(solved(fit, choice, 0), fit, choice)), 2);
        return choice;
    }

    CodebookMatrix solved(const LayerSums& sums, const RefitChoice& choice, std::int64_t sweeps) const {
        CodebookMatrix codes = start_;
        const std::vector<float> weights = inFloat(refit(sums, problem_.start, choice).weight);
        const std::vector<double> h = hessian(sums, choice);
        ErrorFeedback feedback;
        feedback.weights = weights;
        feedback.channels = outputs_;
        chooseByFeedback(codes, feedback, h, 0);
        if (sweeps > 0) descend(codes, {weights, h, entries_, sweeps});
        return codes;
    }

    LinearLayer layerOf(const CodebookMatrix& codes, const LayerSums& sums, const RefitChoice& choice) const {
        const std::vector<float> weights = transposed(codes.decoded(), outputs_, inputs_);
        return withBias(sums, {weights.begin(), weights.end()}, problem_.start, choice);
    }

    const LayerProblem& problem_;
    const CodebookOptions& options_;
    Entries entries_;
    LayerSums all_;
    std::int64_t inputs_, outputs_;
    CodebookMatrix start_;
};

}  // namespace

CodebookFit fitCodebook(const LayerProblem& problem, const CodebookOptions& options, Random random) {
    return Fitter(problem, options, random).run();
}

CodebookFit fitCodebook(const LayerProblem& problem, const CodebookOptions& options, const CodebookMatrix& shared) {
    return Fitter(problem, options, shared).run();
}

std::vector<float> transposed(std::span<const float> values, std::int64_t rows, std::int64_t columns) {
    std::vector<float> result(values.size());
    kernels::transposeMatrix(values.data(), columns, rows, columns, result.data(), rows);
    return result;
}

}  // namespace tcompress::passes
