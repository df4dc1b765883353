#include "lib/ir/provenance.h"

namespace tcompress::ir {

void addProvenance(Metadata& metadata, const std::string& pass) {
    static const std::string key = "tcompress.pass";
    for (onnx::StringStringEntryProto& entry : metadata) {
        if (entry.key() != key) continue;
        bool isLast = entry.value() == pass || entry.value().ends_with("," + pass);
        if (!isLast) *entry.mutable_value() += "," + pass;
        return;
    }
    onnx::StringStringEntryProto& entry = *metadata.Add();
    entry.set_key(key);
    entry.set_value(pass);
}

}  // namespace tcompress::ir
