#include "lib/calibration/fingerprint.h"

#include <fmt/core.h>

#include <span>
#include <string_view>

#include "lib/ir/export.h"
#include "lib/support/sha256.h"

namespace tcompress::calibration {

namespace {

/// Hashes parts with their lengths, so that no two sequences of parts give the same bytes.
class Parts {
  public:
    void add(std::span<const std::byte> bytes) {
        add(fmt::format("{}:", bytes.size()), Raw{});
        hash_.update(bytes);
    }
    void add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }
    std::string digest() { return hash_.hexDigest(); }

  private:
    struct Raw {};
    void add(std::string_view text, Raw) { hash_.update(std::as_bytes(std::span(text.data(), text.size()))); }

    Sha256 hash_;
};

void add(Parts& parts, const ir::Payload& payload) {
    parts.add(std::as_bytes(std::span(payload.bytes.data(), payload.bytes.size())));
}

}  // namespace

std::string fingerprint(const ir::Model& model) {
    const ir::Export exported = ir::exportModel(model);
    Parts parts;
    parts.add(exported.proto.SerializeAsString());
    for (const auto& [index, payload] : exported.payloads.initializers) {
        parts.add(fmt::format("initializer {} {}", index, payload.field));
        add(parts, payload);
    }
    for (const auto& [place, payload] : exported.payloads.attributes) {
        parts.add(fmt::format("attribute {} {} {}", place.node, place.attribute, payload.field));
        add(parts, payload);
    }
    return parts.digest();
}

std::string fingerprint(const data::Dataset& dataset) {
    Parts parts;
    for (const auto& [name, array] : dataset.arrays()) {
        parts.add(name);
        parts.add(fmt::format("{} {}", tcompress::name(array.dtype()), toString(array.shape())));
        parts.add(array.bytes());
    }
    return parts.digest();
}

}  // namespace tcompress::calibration
