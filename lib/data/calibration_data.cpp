#include "lib/data/calibration_data.h"

#include <utility>

namespace tcompress::data {

CalibrationData::CalibrationData(Dataset given, Enlargement enlargement)
    : given_(std::move(given)), enlargement_(std::move(enlargement)), all_(enlarged(given_, enlargement_)) {}

Split CalibrationData::split(double heldBackShare) const {
    Split parts = data::split(given_, heldBackShare);
    parts.fit = enlarged(parts.fit, enlargement_);
    return parts;
}

}  // namespace tcompress::data
