#pragma once
// The options of quantize/codebook, and the codebook that they mean for one matrix.

#include <optional>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "lib/support/option_set.h"
#include "passes/quantize/codebook/codebook_descent.h"
#include "passes/quantize/codebook/vector_codebook.h"

namespace tcompress::passes {

enum class CodebookKind { normalFloat, powersOfTwo, kMeans, vectors };

/// Which matrices have one codebook of vectors together.
enum class CodebookSharing { none, role, all };

struct CodebookOptions {
    CodebookKind codebook = CodebookKind::kMeans;
    double bits = 4;
    std::int64_t groupSize = 0;
    std::int64_t dimension = 0;
    std::int64_t books = 1;
    CodebookSharing shared = CodebookSharing::none;
    bool errorFeedback = true;
    std::int64_t refine = 4;
    std::optional<double> damp;
    bool requantize = false;
    std::vector<std::string> targets, ignore;

    bool hasGroups() const {
        return codebook == CodebookKind::normalFloat || codebook == CodebookKind::powersOfTwo;
    }
    /// Weights of a piece; 0 when none fits.
    std::int64_t pieceLength() const;
    /// Bits of a number.
    std::int64_t numberBits() const;
    VectorShape vectorShape() const { return {pieceLength(), std::int64_t{1} << numberBits(), books}; }
    /// Levels that are the same for every model stay.
    Entries entries() const { return hasGroups() ? Entries::fixed : Entries::moved; }
};

OptionTable<CodebookOptions> codebookOptionTable();
void checkCodebookOptions(const CodebookOptions& options, const std::string& pointer, Diagnostics& diagnostics);

/// Numbers are those of the nearest entries.
CodebookMatrix nearestCodebook(const CodebookOptions& options, const WeightMatrix& matrix, Random random);

/// "16 levels a channel".
std::string describeCodes(const CodebookOptions& options, const CodebookMatrix& codes);

}  // namespace tcompress::passes
