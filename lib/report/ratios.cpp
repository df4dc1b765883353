#include "lib/report/describe.h"

namespace tcompress::report {
namespace {

template <class N>
std::optional<double> ratio(N after, N before) {
    if (before == 0 || after == 0) return std::nullopt;  // 0: was not recorded
    return static_cast<double>(after) / static_cast<double>(before);
}

}  // namespace

std::optional<Ratios> ratios(const Report& report) {
    if (!report.original || !report.compressed) return std::nullopt;
    const ModelRecord &before = *report.original, &after = *report.compressed;
    Ratios result;
    result.fileBytes = ratio(after.file.fileBytes, before.file.fileBytes);
    result.constantBytes = ratio(after.constantBytes, before.constantBytes);
    if (before.cost && after.cost) {
        result.parameters = ratio(after.cost->parameters, before.cost->parameters);
        result.macs = ratio(after.cost->macs, before.cost->macs);
    }
    return result;
}

}  // namespace tcompress::report
