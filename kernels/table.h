#pragma once
// How a kernel is chosen: every family is an ordered list of implementations {name, refuse, run}. The first
// that does not refuse runs; own kernels and oneDNN come first, the slow obvious reference last and refuses
// nothing. The reason of each refusal can be shown (--profile). TCOMPRESS_KERNELS=reference, or
// setKernelChoice, leaves only the reference.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tcompress::kernels {

enum class KernelChoice { fastest, reference };

/// From TCOMPRESS_KERNELS ("reference", or unset for fastest) unless set here. Throws ConfigError for another
/// value.
KernelChoice kernelChoice();
/// Overrides the environment; not meant to be called while kernels run.
void setKernelChoice(KernelChoice choice);

struct Refusal {
    std::string_view kernel;
    std::string reason;
};

template <class Params>
struct KernelRow {
    std::string_view name;
    /// Why this kernel cannot run these parameters; nothing when it can.
    std::optional<std::string> (*refuse)(const Params&);
    void (*run)(const Params&);
};

/// The row that would run `params`; `refusals`, when given, gets the reasons of those before it.
template <class Params>
const KernelRow<Params>& selectKernel(std::span<const KernelRow<Params>> table, const Params& params,
                                      std::vector<Refusal>* refusals = nullptr) {
    if (kernelChoice() == KernelChoice::reference) return table.back();
    for (const KernelRow<Params>& row : table.first(table.size() - 1)) {
        std::optional<std::string> reason = row.refuse(params);
        if (!reason) return row;
        if (refusals) refusals->push_back({row.name, std::move(*reason)});
    }
    return table.back();
}

}  // namespace tcompress::kernels
