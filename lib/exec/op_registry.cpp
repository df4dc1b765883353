// The one list of operator tables. A new family of operators adds its line here.

#include <fmt/core.h>

#include "lib/exec/op_registry.h"

#include <unordered_map>

namespace tcompress::exec {

namespace {

using Index = std::unordered_map<std::string, std::vector<const OperatorRow*>>;

const Index& index() {
    static const Index index = [] {
        Index rows;
        for (const OperatorRow* row : allOperators()) rows[fmt::format("{}:{}", row->domain, row->type)].push_back(row);
        return rows;
    }();
    return index;
}

}  // namespace

std::vector<const OperatorRow*> allOperators() {
    std::vector<const OperatorRow*> rows;
    for (std::span<const OperatorRow> table : operatorTables()) {
        for (const OperatorRow& row : table) rows.push_back(&row);
    }
    return rows;
}

const OperatorRow* findOperator(std::string_view domain, std::string_view type, std::int64_t version) {
    const auto found = index().find(fmt::format("{}:{}", domain, type));
    if (found == index().end()) return nullptr;
    const OperatorRow* best = nullptr;
    for (const OperatorRow* row : found->second) {
        if (row->since <= version && (!best || row->since > best->since)) best = row;
    }
    return best;
}

std::vector<std::span<const OperatorRow>> operatorTables() {
    return {
        binaryOperators(),   unaryOperators(),        logicOperators(),     castOperators(),
        shapeOperators(),    joinOperators(),         sliceOperators(),     gatherOperators(),
        scatterOperators(),  generatorOperators(),    reduceOperators(),    matmulOperators(),
        convOperators(),     normalizationOperators(), softmaxOperators(),  activationOperators(),
        quantizeOperators(), integerMatmulOperators(), contribOperators(),  attentionOperators(),
        sortOperators(),     controlFlowOperators(),  sequenceOperators(),   fusedOperators(),
        codedOperators(),    codedLinearOperators(),
        einsumOperators(),   resizeOperators(),       poolingOperators(),     lossOperators(),
        recurrentOperators(), spectralOperators(),    gridSampleOperators(), detectionOperators(),
        patchOperators(),    determinantOperators(),  batchNormalizationOperators(),
        contribAttentionOperators(), gatherBlocksOperators(),
    };
}

}  // namespace tcompress::exec
