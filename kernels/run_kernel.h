#pragma once
// Runs the kernel that a table selects. Whoever watches the calling thread is told which one it was and why
// those before it refused.

#include <span>
#include <string_view>
#include <vector>

#include "kernels/table.h"

namespace tcompress::kernels {

class KernelWatcher {
  public:
    virtual ~KernelWatcher() = default;
    virtual void selected(std::string_view kernel, std::span<const Refusal> refusals) = 0;
};

/// Of the calling thread. Null, as it mostly is: nobody watches, and refusals cost nothing.
KernelWatcher*& kernelWatcher();

template <class Params>
void runKernel(std::span<const KernelRow<Params>> table, const Params& params) {
    KernelWatcher* const watcher = kernelWatcher();
    std::vector<Refusal> refusals;
    const KernelRow<Params>& row = selectKernel(table, params, watcher ? &refusals : nullptr);
    if (watcher) watcher->selected(row.name, refusals);
    row.run(params);
}

}  // namespace tcompress::kernels
