#pragma once
// The samples that passes calibrate on: those given and, where they are asked for, those made of them.

#include "lib/data/enlarge.h"
#include "lib/data/split.h"

namespace tcompress::data {

class CalibrationData {
  public:
    explicit CalibrationData(Dataset given, Enlargement enlargement = {});

    const Dataset& given() const { return given_; }
    /// What was given, then what was made.
    const Dataset& all() const { return all_; }
    /// Given samples are held back, made ones come from what is left to fit to.
    Split split(double heldBackShare) const;

  private:
    Dataset given_;
    Enlargement enlargement_;
    Dataset all_;
};

}  // namespace tcompress::data
