// Matrices that are the same, or nearly, are stored once: tied embeddings that an exporter wrote out twice, layers whose
// weights never moved apart.
//
//   head = MatMul(x, W₂)  with W₂ = tableᵀ   →   head = MatMul(x, Transpose(table))
//
// Equal ones change no bit. With a tolerance the later reads the first one's values, and the report says how far apart they
// were. Runtimes compute the transposition of a constant once, when they load the model. Equal vectors are cleanup's.
// Not handled: weights that are quantized already.

#include <fmt/core.h>

#include <cmath>
#include <optional>

#include "passes/passes.h"
#include "lib/ir/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "share-parameters/tensors";
/// The rounding of a norm that is summed in float64.
constexpr double kNormRounding = 1e-9;

struct Options {
    double tolerance = 0;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("tolerance", &Options::tolerance,
                "largest difference of two matrices that become one, relative to the first's norm; 0: only equal ones")
        .range(0, 1)
        .option("targets", &Options::targets, "sites whose weights may be replaced by another's, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

/// A stored matrix with what tells most pairs apart at once.
struct Matrix {
    const TargetWeight* weight = nullptr;
    double norm = 0;

    const Tensor& tensor() const { return *weight->constant->constant(); }
};

double norm(const Tensor& tensor) {
    double sum = 0;
    for (const float value : tensor.data<float>()) sum += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(sum);
}

enum class Orientation { same, transposed };

/// ‖first − second‖ / ‖first‖; nothing when the shapes differ or it is above the tolerance.
std::optional<double> distance(const Matrix& first, const Matrix& second, Orientation orientation, double tolerance) {
    const Shape &a = first.tensor().shape(), &b = second.tensor().shape();
    const bool turned = orientation == Orientation::transposed;
    if (a[0] != b[turned ? 1 : 0] || a[1] != b[turned ? 0 : 1]) return std::nullopt;
    // ‖a − b‖ is no less than the difference of the norms.
    if (std::abs(first.norm - second.norm) > (tolerance + kNormRounding) * first.norm) return std::nullopt;
    const auto x = first.tensor().data<float>(), y = second.tensor().data<float>();
    const double limit = tolerance * first.norm * tolerance * first.norm;
    double sum = 0;
    for (std::int64_t i = 0; i < a[0]; ++i) {
        for (std::int64_t j = 0; j < a[1]; ++j) {
            const auto other = static_cast<std::size_t>(turned ? j * a[0] + i : i * a[1] + j);
            const double difference =
                static_cast<double>(x[static_cast<std::size_t>(i * a[1] + j)]) - static_cast<double>(y[other]);
            sum += difference * difference;
        }
        if (!(sum <= limit)) return std::nullopt;
    }
    return first.norm > 0 ? std::sqrt(sum) / first.norm : 0.0;
}

class ShareTensors : public pipeline::Pass {
  public:
    explicit ShareTensors(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report, unnamed;
        // What another may be replaced by need not be a target itself.
        const std::vector<TargetWeight> all = targetWeights(context.view(model), {}, unnamed);
        std::vector<TargetWeight> replaceable =
            targetWeights(context.view(model), {options_.targets, options_.ignore}, report);
        ir::Edit edit(model, kPass);
        std::vector<Matrix> kept;
        for (const TargetWeight& weight : all) {
            if (weight.constant->constant()->rank() != 2) continue;
            const Matrix matrix{&weight, norm(*weight.constant->constant())};
            const bool isTarget = std::any_of(replaceable.begin(), replaceable.end(), [&](const TargetWeight& target) {
                return target.constant == weight.constant;
            });
            if (!isTarget || !replaced(edit, kept, matrix, report)) kept.push_back(matrix);
        }
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    bool replaced(ir::Edit& edit, const std::vector<Matrix>& kept, const Matrix& matrix, PassReport& report) const {
        for (const Matrix& first : kept)
            for (const Orientation orientation : {Orientation::same, Orientation::transposed}) {
                const auto found = distance(first, matrix, orientation, options_.tolerance);
                if (!found) continue;
                ir::Value* stored = first.weight->constant;
                if (orientation == Orientation::transposed)
                    stored = emit(edit, "Transpose", {stored}, {{"perm", std::vector<std::int64_t>{1, 0}}});
                edit.replaceAllUses(matrix.weight->constant, stored);
                report.changed.push_back(
                    {matrix.weight->name(),
                     fmt::format("{} is {} '{}'{}", describe(matrix.tensor()), *found == 0 ? "the same as" : "taken from",
                                 first.weight->name(), orientation == Orientation::transposed ? ", transposed" : ""),
                     *found});
                return true;
            }
        return false;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo shareTensors() {
    pipeline::PassInfo info;
    info.type = "share-parameters";
    info.method = "tensors";
    info.summary = "equal and nearly equal matrices are stored once, transposed ones too";
    info.details =
        "Looks for matrices of linear layers and embeddings that are the same, also when one is the other's transposed, as "
        "when an exporter wrote tied embeddings out twice, and keeps the first. With a tolerance also nearly equal ones.";
    bindOptions<ShareTensors>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
