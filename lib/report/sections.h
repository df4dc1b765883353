#pragma once
// The parts of the Markdown report; each is empty when there is nothing to say.

#include <string>

#include "lib/report/report.h"

namespace tcompress::report {

/// The result in a few lines: what went in, what came out, what it cost.
std::string headline(const Report& report);
std::string sizeSection(const Report& report);
std::string qualitySection(const measure::Evaluation& evaluation);
std::string costSection(const measure::Evaluation& evaluation);
std::string passSection(const Report& report);
std::string constraintSection(const Report& report);
std::string originSection(const Report& report);

}  // namespace tcompress::report
