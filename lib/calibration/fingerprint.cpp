#include "lib/calibration/fingerprint.h"

#include <fmt/core.h>

#include <span>
#include <string_view>

#include "kernels/table.h"
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

std::span<const std::byte> bytesOf(const ir::Payload& payload) {
    return std::as_bytes(std::span(payload.bytes.data(), payload.bytes.size()));
}

/// Who owns the bytes of the model's constants, by their address.
std::map<const std::byte*, std::shared_ptr<const std::byte>> owners(const ir::Model& model) {
    std::map<const std::byte*, std::shared_ptr<const std::byte>> owners;
    const auto add = [&](const ir::Value* value) {
        const Tensor* constant = value == nullptr ? nullptr : value->constant();
        if (constant != nullptr) owners.emplace(constant->storage().get(), constant->storage());
    };
    for (const ir::Value* value : model.graph().initializers()) add(value);
    for (const auto& node : model.graph().nodes())
        if (node->is("Constant")) add(node->output());
    return owners;
}

}  // namespace

std::string Fingerprints::of(const ir::Model& model) {
    // Edits go back and forth between a few models; what older ones held is let go.
    constexpr std::uint64_t kTurnsKept = 4;
    ++turn_;
    std::erase_if(known_, [&](const auto& entry) { return entry.second.turn + kTurnsKept < turn_; });
    const auto owned = owners(model);
    const auto digestOf = [&](const ir::Payload& payload) {
        const std::span<const std::byte> bytes = bytesOf(payload);
        const auto owner = owned.find(bytes.data());
        if (owner == owned.end()) return sha256(bytes);
        Known& known = known_[bytes.data()];
        if (known.bytes != owner->second || known.size != bytes.size())
            known = {owner->second, bytes.size(), sha256(bytes), turn_};
        known.turn = turn_;
        return known.digest;
    };
    const ir::Export exported = ir::exportModel(model);
    Parts parts;
    parts.add(exported.proto.SerializeAsString());
    for (const auto& [index, payload] : exported.payloads.initializers) {
        parts.add(fmt::format("initializer {} {}", index, payload.field));
        parts.add(digestOf(payload));
    }
    for (const auto& [place, payload] : exported.payloads.attributes) {
        parts.add(fmt::format("attribute {} {} {}", place.node, place.attribute, payload.field));
        parts.add(digestOf(payload));
    }
    return parts.digest();
}

std::string fingerprint(const ir::Model& model) { return Fingerprints().of(model); }

std::string fingerprintOfKernels() {
    if (kernels::kernelChoice() == kernels::KernelChoice::reference) return "reference";
    return fmt::format("fastest{}{}{}{}{}", __builtin_cpu_supports("x86-64-v3") ? " v3" : "",
                       __builtin_cpu_supports("x86-64-v4") ? " v4" : "",
                       __builtin_cpu_supports("avx512vnni") ? " avx512vnni" : "",
                       __builtin_cpu_supports("avxvnni") ? " avxvnni" : "",
                       __builtin_cpu_supports("avx512vbmi") ? " avx512vbmi" : "");
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
