// Runs models on request, so that a test in another language asks one process many times. A request is a line
// of four fields separated by tabs:
//   full or none (the fusion)   MODEL.onnx   FEEDS.npz   OUTPUTS.npz (to write, arrays named as the model's
//   outputs)
// and its answer a line: "ok", or "error" and the message.

#include <algorithm>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>

#include "lib/data/dataset.h"
#include "lib/data/readers.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace {

using namespace tcompress;

void answer(const std::string& request) {
    std::istringstream fields(request);
    std::string fusion, modelFile, feeds, outputs;
    for (std::string* field : {&fusion, &modelFile, &feeds, &outputs}) std::getline(fields, *field, '\t');
    if ((fusion != "full" && fusion != "none") || outputs.empty())
        throw Error("a request is FUSION, MODEL, FEEDS, OUTPUTS");
    const ir::Model model = ir::load(modelFile);
    exec::Executor executor(model, {fusion == "none" ? exec::Fusion::none : exec::Fusion::full});
    const std::vector<Tensor> values = executor.run(data::readNpz(feeds));
    std::vector<std::pair<std::string, Tensor>> arrays;
    for (std::size_t i = 0; i < values.size(); ++i)
        arrays.emplace_back(model.graph().outputs()[i]->name(), values[i]);
    data::writeNpz(outputs, arrays);
}

}  // namespace

int main() {
    for (std::string request; std::getline(std::cin, request);) {
        std::string told = "ok";
        try {
            answer(request);
        } catch (const std::exception& error) {
            told = std::string("error ") + error.what();
            std::replace(told.begin(), told.end(), '\n', ' ');
        }
        std::cout << told << std::endl;
    }
}
