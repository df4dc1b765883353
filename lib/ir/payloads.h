#pragma once
// Takes the large payloads out of a serialised ModelProto and puts them back: what remains, the skeleton, is
// a small message that protobuf can parse or has made, whatever the size of the weights.
//   cutPayloads:  file bytes → skeleton bytes + where each payload is
//   splicePayloads:  skeleton bytes + payloads → the pieces of the file, lengths mended
// A payload is the content of one field of a TensorProto in graph.initializer[i] or
// graph.node[i].attribute[j].t: raw_data, or a packed typed field (float_data, int64_data …). It is cut when
// it is at least payloadThreshold long and its field stands once.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lib/ir/wire.h"

namespace tcompress::ir {

constexpr std::size_t payloadThreshold = 1024;

/// Field numbers of TensorProto.
namespace tensor_field {
constexpr int floatData = 4, int32Data = 5, int64Data = 7, rawData = 9, doubleData = 10, uint64Data = 11;
}

struct Payload {
    int field = tensor_field::rawData;
    wire::Bytes bytes;
};

struct AttributePlace {
    int node = 0;
    int attribute = 0;
    auto operator<=>(const AttributePlace&) const = default;
};

struct Payloads {
    std::map<int, Payload> initializers;  ///< by index in graph.initializer
    std::map<AttributePlace, Payload> attributes;
};

struct Skeleton {
    std::string bytes;
    Payloads payloads;
};

/// Throws wire::Malformed.
Skeleton cutPayloads(wire::Bytes model);

/// Consecutive bytes of the file: some made here, then a payload (either may be empty).
struct Piece {
    std::string made;
    wire::Bytes payload;
};

std::vector<Piece> splicePayloads(const std::string& skeleton, const Payloads& payloads);

}  // namespace tcompress::ir
