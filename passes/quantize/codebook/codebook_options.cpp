#include "passes/quantize/codebook/codebook_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/grid/levels.h"
#include "passes/quantize/storage/weight_storage.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kUsualGroup = 64;
constexpr std::int64_t kSmallestGroup = 16;
/// Larger codebooks take as much as the numbers they save.
constexpr std::int64_t kMostVectorBits = 12;
constexpr std::int64_t kUsualVectorBits = 8;

bool isWhole(double value) { return value == std::floor(value); }

}  // namespace

std::int64_t CodebookOptions::pieceLength() const {
    if (codebook != CodebookKind::vectors) return 1;
    if (dimension > 0) return dimension;
    for (const std::int64_t length : {8, 4, 2}) {
        const double number = bits * static_cast<double>(length) / static_cast<double>(books);
        if (isWhole(number) && number <= kUsualVectorBits) return length;
    }
    return 0;
}

std::int64_t CodebookOptions::numberBits() const {
    return static_cast<std::int64_t>(bits * static_cast<double>(pieceLength()) / static_cast<double>(books));
}

OptionTable<CodebookOptions> codebookOptionTable() {
    using Options = CodebookOptions;
    OptionTable<Options> table;
    table
        .choice("codebook", &Options::codebook,
                {{"normal-float", CodebookKind::normalFloat},
                 {"logarithmic", CodebookKind::powersOfTwo},
                 {"k-means", CodebookKind::kMeans},
                 {"vector", CodebookKind::vectors}},
                "normal-float: quantiles of the normal distribution (NF4 at 4 bits); logarithmic: powers of "
                "two; k-means: the best levels of each output channel; vector: entries for pieces of several "
                "weights, found by k-means")
        .option("bits", &Options::bits,
                "bits of a weight, without scales and codebooks; of vectors also a fraction (1.5) that makes a "
                "whole number for a piece")
        .range(1, 8)
        .option("group_size", &Options::groupSize,
                "normal-float and logarithmic: weights that share a scale, along the summed axis, 16 to 4096; "
                "-1: one scale per output channel; 0: 64")
        .range(kPerChannel, 4096)
        .option("dimension", &Options::dimension,
                "vector: weights of a piece, 2, 4 or 8; 0: as many as codebooks of 256 entries allow")
        .range(0, 8)
        .option("books", &Options::books,
                "vector: codebooks whose entries are added up; each has the bits of a piece divided by their "
                "number")
        .range(1, 2)
        .choice("shared", &Options::shared,
                {{"none", CodebookSharing::none}, {"role", CodebookSharing::role}, {"all", CodebookSharing::all}},
                "vector: role: matrices of one role (all queries, all down projections) are numbers of one codebook, trained "
                "on all of them and stored once, so that large ones are worth their bytes; all: all matrices are; none: "
                "each has its own")
        .option("error_feedback", &Options::errorFeedback,
                "with calibration data: let each rounding repay what the ones before it cost the layer's "
                "output; false: nearest entries")
        .option("refine", &Options::refine,
                "with error feedback: turns in which numbers, entries and scales are moved for the layer's "
                "output, kept where held-back samples gain; 0: none")
        .range(0, 100)
        .option("damp", &Options::damp,
                "added to the diagonal of the activations' second moments, as a share of its mean; left out: "
                "chosen for each layer on held-back samples")
        .alias("percdamp")
        .alias("dampening_frac")
        .range(1e-6, 100.0)
        .option("requantize", &Options::requantize, kRequantizeHelp)
        .option("targets", &Options::targets, "sites to quantize, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkCodebookOptions(const CodebookOptions& options, const std::string& pointer, Diagnostics& diagnostics) {
    const bool isVectors = options.codebook == CodebookKind::vectors;
    const auto bitsBetween = [&](std::int64_t low, std::int64_t high) {
        if (options.bits < static_cast<double>(low) || options.bits > static_cast<double>(high))
            diagnostics.add(pointer + "/bits", fmt::format("this codebook takes {} to {} bits, and bits is {}",
                                                           low, high, options.bits));
    };
    if (options.codebook == CodebookKind::normalFloat) bitsBetween(2, 8);
    if (options.codebook == CodebookKind::powersOfTwo) bitsBetween(2, 5);
    if (!isVectors && !isWhole(options.bits))
        diagnostics.add(pointer + "/bits", fmt::format("only vectors take a fraction of a bit, and bits is {}",
                                                       options.bits));
    if (!options.hasGroups() && options.groupSize != 0)
        diagnostics.add(pointer + "/group_size", "only normal-float and logarithmic have a scale a group");
    if (options.groupSize > 0 && options.groupSize < kSmallestGroup)
        diagnostics.add(pointer + "/group_size",
                        fmt::format("{} is too small: 16 or more, or -1 for one scale per output channel",
                                    options.groupSize));
    if (!isVectors) {
        if (options.dimension != 0) diagnostics.add(pointer + "/dimension", "only vector has pieces");
        if (options.books != 1) diagnostics.add(pointer + "/books", "only vector adds codebooks up");
        if (options.shared != CodebookSharing::none)
            diagnostics.add(pointer + "/shared", "only vector has codebooks that matrices can share");
        return;
    }
    const std::int64_t length = options.pieceLength();
    if (length != 2 && length != 4 && length != 8) {
        diagnostics.add(pointer + "/dimension",
                        length == 0 ? "no piece of 2 weights or more fits; take fewer bits or more books"
                                    : "pieces have 2, 4 or 8 weights");
        return;
    }
    const double bits = options.bits * static_cast<double>(length);
    const double number = bits / static_cast<double>(options.books);
    if (!isWhole(number) || number < 1 || number > kMostVectorBits)
        diagnostics.add(pointer + "/dimension",
                        fmt::format("{} bits of a piece in {} codebook{}: each takes a whole number of bits, {} "
                                    "at most",
                                    bits, options.books, options.books > 1 ? "s" : "", kMostVectorBits));
}

CodebookMatrix nearestCodebook(const CodebookOptions& options, const WeightMatrix& matrix, Random random) {
    const std::int64_t group = options.groupSize == kPerChannel ? matrix.inputs
                               : options.groupSize == 0         ? kUsualGroup
                                                                : options.groupSize;
    const std::int64_t block = std::min(group, matrix.inputs);
    const int bits = static_cast<int>(options.numberBits());
    switch (options.codebook) {
        case CodebookKind::normalFloat:
            return withLevels(matrix, normalFloatLevels(bits), block);
        case CodebookKind::powersOfTwo:
            return withLevels(matrix, powerOfTwoLevels(bits), block);
        case CodebookKind::kMeans:
            return withBestLevels(matrix, std::int64_t{1} << bits);
        case CodebookKind::vectors:
            break;
    }
    return withVectors(matrix, options.vectorShape(), random);
}

std::string describeCodes(const CodebookOptions& options, const CodebookMatrix& codes) {
    switch (options.codebook) {
        case CodebookKind::normalFloat:
            return fmt::format("normal floats of {} bits, a scale per {} weights", options.numberBits(), codes.block);
        case CodebookKind::powersOfTwo:
            return fmt::format("{} powers of two and 0, a scale per {} weights", codes.size - 1, codes.block);
        case CodebookKind::kMeans:
            return fmt::format("{} levels a channel", codes.size);
        case CodebookKind::vectors:
            break;
    }
    return fmt::format("{}{} vectors of {} weights", options.books > 1 ? "sums of 2 of " : "", codes.size,
                       codes.dimension);
}

}  // namespace tcompress::passes
