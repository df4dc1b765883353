#include "kernels/table.h"

#include "kernels/run_kernel.h"

#include <atomic>
#include <cstdlib>

#include <fmt/core.h>

#include "lib/support/error.h"

namespace tcompress::kernels {

namespace {

KernelChoice choiceFromEnvironment() {
    const char* value = std::getenv("TCOMPRESS_KERNELS");
    const std::string_view text = value ? value : "";
    if (text.empty() || text == "fastest") return KernelChoice::fastest;
    if (text == "reference") return KernelChoice::reference;
    throw ConfigError(fmt::format("TCOMPRESS_KERNELS is '{}': must be 'fastest' or 'reference'", text));
}

std::atomic<KernelChoice>& choice() {
    static std::atomic<KernelChoice> value{choiceFromEnvironment()};
    return value;
}

}  // namespace

KernelChoice kernelChoice() { return choice(); }

void setKernelChoice(KernelChoice value) { choice() = value; }

KernelWatcher*& kernelWatcher() {
    thread_local KernelWatcher* watcher = nullptr;
    return watcher;
}

}  // namespace tcompress::kernels
