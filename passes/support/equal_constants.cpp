#include "passes/support/equal_constants.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "lib/support/sha256.h"

namespace tcompress::passes {

bool isCaptured(const ir::Value& value) {
    return std::any_of(value.uses().begin(), value.uses().end(),
                       [](const ir::Use& use) { return use.kind == ir::UseKind::captured; });
}

std::size_t mergeEqualConstants(ir::Model& model, const std::string& pass,
                                const std::function<bool(const Tensor&)>& isCandidate) {
    std::map<std::pair<DType, Shape>, std::vector<ir::Value*>> alike;
    for (ir::Value* value : model.graph().values())
        if (value->constant() != nullptr && bitsPerElement(value->dtype()) > 0 && !value->isGraphOutput() &&
            !isCaptured(*value) && isCandidate(*value->constant()))
            alike[{value->constant()->dtype(), value->constant()->shape()}].push_back(value);
    ir::Edit edit(model, pass);
    std::size_t count = 0;
    for (const auto& [key, values] : alike) {
        if (values.size() < 2) continue;
        std::map<std::string, ir::Value*> first;
        for (ir::Value* value : values) {
            const auto [found, isNew] = first.try_emplace(sha256(value->constant()->bytes()), value);
            if (isNew || value->uses().empty()) continue;
            edit.replaceAllUses(value, found->second);
            ++count;
        }
    }
    if (!edit.empty()) edit.commit();
    return count;
}

}  // namespace tcompress::passes
