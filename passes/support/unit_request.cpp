#include "passes/support/unit_request.h"

namespace tcompress::passes {

bool UnitRequest::fitsAgain(bool hasCalibration) const {
    return compensate.value_or(hasCalibration || ranking == Ranking::reconstruction || loss == Loss::model);
}

void checkUnitRequest(const UnitRequest& request, const std::string& score, const std::string& pointer,
                      Diagnostics& diagnostics) {
    if (request.ranking == Ranking::reconstruction && request.compensate == false)
        diagnostics.add(pointer + "/importance", "reconstruction counts on weights that are fitted again; take " + score +
                                                     " with compensate false");
    if (request.loss == Loss::model && (request.compensate == false || request.ranking == Ranking::otherwise))
        diagnostics.add(pointer + "/loss", "loss 'model' needs importance 'reconstruction', and weights that are fitted again");
}

}  // namespace tcompress::passes
