// The watcher of a thread is told which kernel ran and why the others did not.

#include "kernels/run_kernel.h"

#include <array>
#include <catch2/catch.hpp>
#include <thread>

namespace tcompress::kernels {
namespace {

struct Size {
    int value = 0;
    int* ranBy = nullptr;
};

std::optional<std::string> wantsEven(const Size& size) {
    if (size.value % 2 == 0) return std::nullopt;
    return "odd sizes";
}
std::optional<std::string> takesAll(const Size&) { return std::nullopt; }

constexpr std::array kTable{
    KernelRow<Size>{"fast", wantsEven, [](const Size& size) { *size.ranBy = 1; }},
    KernelRow<Size>{"reference", takesAll, [](const Size& size) { *size.ranBy = 2; }},
};

class Notes : public KernelWatcher {
  public:
    void selected(std::string_view kernel, std::span<const Refusal> refusals) override {
        kernels.emplace_back(kernel);
        for (const Refusal& refusal : refusals)
            reasons.push_back(std::string(refusal.kernel) + ": " + refusal.reason);
    }
    std::vector<std::string> kernels, reasons;
};

int run(int value) {
    int ranBy = 0;
    runKernel(std::span<const KernelRow<Size>>(kTable), Size{value, &ranBy});
    return ranBy;
}

TEST_CASE("A watcher sees the selected kernel and the refusals") {
    Notes notes;
    CHECK(run(4) == 1);  // nobody watches
    kernelWatcher() = &notes;
    CHECK(run(4) == 1);
    CHECK(run(3) == 2);
    setKernelChoice(KernelChoice::reference);
    CHECK(run(4) == 2);
    setKernelChoice(KernelChoice::fastest);
    // Other threads have watchers of their own.
    std::thread([] { run(4); }).join();
    kernelWatcher() = nullptr;
    CHECK(run(3) == 2);
    CHECK(notes.kernels == std::vector<std::string>{"fast", "reference", "reference"});
    CHECK(notes.reasons == std::vector<std::string>{"fast: odd sizes"});
}

}  // namespace
}  // namespace tcompress::kernels
