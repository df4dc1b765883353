#pragma once

#include <string>

#include "lib/report/report.h"

namespace tcompress::cli {

/// What a dry run found, for people: a table of the passes, their sites, the predicted size, work and memory.
std::string planText(const report::Report& plan);

}  // namespace tcompress::cli
