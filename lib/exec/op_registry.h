#pragma once
// The operator tables, one a file in ops/.

#include <span>
#include <vector>

#include "lib/exec/operator.h"

namespace tcompress::exec {

std::vector<std::span<const OperatorRow>> operatorTables();

std::span<const OperatorRow> binaryOperators();
std::span<const OperatorRow> unaryOperators();
std::span<const OperatorRow> logicOperators();
std::span<const OperatorRow> castOperators();
std::span<const OperatorRow> shapeOperators();
std::span<const OperatorRow> joinOperators();
std::span<const OperatorRow> sliceOperators();
std::span<const OperatorRow> gatherOperators();
std::span<const OperatorRow> scatterOperators();
std::span<const OperatorRow> generatorOperators();
std::span<const OperatorRow> reduceOperators();
std::span<const OperatorRow> matmulOperators();
std::span<const OperatorRow> convOperators();
std::span<const OperatorRow> poolingOperators();
std::span<const OperatorRow> resizeOperators();
std::span<const OperatorRow> einsumOperators();
std::span<const OperatorRow> normalizationOperators();
std::span<const OperatorRow> batchNormalizationOperators();
std::span<const OperatorRow> softmaxOperators();
std::span<const OperatorRow> activationOperators();
std::span<const OperatorRow> quantizeOperators();
std::span<const OperatorRow> integerMatmulOperators();
std::span<const OperatorRow> contribOperators();
std::span<const OperatorRow> attentionOperators();
std::span<const OperatorRow> contribAttentionOperators();
std::span<const OperatorRow> gatherBlocksOperators();
std::span<const OperatorRow> sortOperators();
std::span<const OperatorRow> controlFlowOperators();
std::span<const OperatorRow> sequenceOperators();
std::span<const OperatorRow> fusedOperators();
std::span<const OperatorRow> codedOperators();
std::span<const OperatorRow> codedLinearOperators();
std::span<const OperatorRow> lossOperators();
std::span<const OperatorRow> recurrentOperators();
std::span<const OperatorRow> spectralOperators();
std::span<const OperatorRow> gridSampleOperators();
std::span<const OperatorRow> detectionOperators();
std::span<const OperatorRow> patchOperators();
std::span<const OperatorRow> determinantOperators();

}  // namespace tcompress::exec
