#include "lib/ir/payloads.h"

#include <algorithm>
#include <array>

#include "lib/support/mapped_file.h"

namespace tcompress::ir {
namespace {

using wire::Bytes;
using wire::Field;
using wire::FieldReader;

namespace model_field {
constexpr int graph = 7;
}
namespace graph_field {
constexpr int node = 1, initializer = 5;
}
namespace node_field {
constexpr int attribute = 5;
}
namespace attribute_field {
constexpr int tensor = 5;
}

bool holds(const Field& field, int number) {
    return static_cast<int>(field.number) == number && field.type == wire::Type::bytes;
}

void appendMessage(std::string& target, std::uint32_t number, const std::string& message) {
    wire::appendHeader(target, number, message.size());
    target += message;
}

bool isDataField(const Field& field) {
    constexpr std::array<int, 6> dataFields{tensor_field::floatData,  tensor_field::int32Data,
                                            tensor_field::int64Data,  tensor_field::rawData,
                                            tensor_field::doubleData, tensor_field::uint64Data};
    return std::any_of(dataFields.begin(), dataFields.end(),
                       [&](int number) { return holds(field, number); });
}

/// The one large data field of a tensor; nothing when there is none, or fields that would have to be joined.
std::optional<Field> findPayload(Bytes tensor) {
    std::optional<Field> found;
    FieldReader reader(tensor);
    while (std::optional<Field> field = reader.next()) {
        if (!isDataField(*field)) continue;
        if (found) return std::nullopt;
        found = field;
    }
    if (found && found->payload.size() < payloadThreshold) found.reset();
    return found;
}

/// Appends the field that holds a tensor, without its payload when that is large.
std::optional<Payload> appendTensor(std::string& target, const Field& tensor) {
    std::optional<Field> payload = findPayload(tensor.payload);
    if (!payload) {
        wire::append(target, tensor.whole);
        return std::nullopt;
    }
    Bytes before(tensor.payload.data(), payload->whole.data());
    Bytes after(payload->whole.data() + payload->whole.size(), tensor.payload.data() + tensor.payload.size());
    wire::appendHeader(target, tensor.number, before.size() + after.size());
    wire::append(target, before);
    wire::append(target, after);
    // Looking at a tensor's header can bring two megabytes around it into memory (a huge page of the file
    // cache).
    constexpr std::size_t worthReleasing = std::size_t{64} << 10;
    if (payload->payload.size() >= worthReleasing) releaseIfMapped(payload->payload);
    return Payload{static_cast<int>(payload->number), payload->payload};
}

class Cutter {
  public:
    std::string cutModel(Bytes model) {
        std::string result;
        FieldReader reader(model);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, model_field::graph)) {
                appendMessage(result, field->number, cutGraph(field->payload));
            } else {
                wire::append(result, field->whole);
            }
        }
        return result;
    }

    Payloads payloads;

  private:
    // A field that stands twice is merged by protobuf, so the counts go on through a second `graph`.
    int nodes_ = 0;
    int initializers_ = 0;

    std::string cutGraph(Bytes graph) {
        std::string result;
        FieldReader reader(graph);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, graph_field::initializer)) {
                std::optional<Payload> payload = appendTensor(result, *field);
                if (payload) payloads.initializers.emplace(initializers_, *payload);
                ++initializers_;
            } else if (holds(*field, graph_field::node)) {
                if (field->payload.size() < payloadThreshold) {
                    wire::append(result, field->whole);
                } else {
                    appendMessage(result, field->number, cutNode(field->payload));
                }
                ++nodes_;
            } else {
                wire::append(result, field->whole);
            }
        }
        return result;
    }

    std::string cutNode(Bytes node) {
        std::string result;
        int attributes = 0;
        FieldReader reader(node);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, node_field::attribute)) {
                appendMessage(result, field->number, cutAttribute(field->payload, {nodes_, attributes++}));
            } else {
                wire::append(result, field->whole);
            }
        }
        return result;
    }

    std::string cutAttribute(Bytes attribute, AttributePlace place) {
        int tensors = 0;
        FieldReader counter(attribute);
        while (std::optional<Field> field = counter.next())
            tensors += holds(*field, attribute_field::tensor) ? 1 : 0;

        std::string result;
        FieldReader reader(attribute);
        while (std::optional<Field> field = reader.next()) {
            if (tensors == 1 && holds(*field, attribute_field::tensor)) {
                std::optional<Payload> payload = appendTensor(result, *field);
                if (payload) payloads.attributes.emplace(place, *payload);
            } else {
                wire::append(result, field->whole);
            }
        }
        return result;
    }
};

/// Bytes that are made, with payloads between.
struct Rope {
    std::vector<Piece> pieces;
    std::string tail;
    std::uint64_t size = 0;

    void append(Bytes bytes) {
        wire::append(tail, bytes);
        size += bytes.size();
    }
    void appendHeader(std::uint32_t number, std::uint64_t length) {
        std::size_t before = tail.size();
        wire::appendHeader(tail, number, length);
        size += tail.size() - before;
    }
    void appendPayload(Bytes payload) {
        pieces.push_back({std::move(tail), payload});
        tail.clear();
        size += payload.size();
    }
    void append(std::uint32_t number, Rope message) {
        appendHeader(number, message.size);
        size += message.size;
        for (Piece& piece : message.pieces) {
            tail += piece.made;
            pieces.push_back({std::move(tail), piece.payload});
            tail.clear();
        }
        tail += message.tail;
    }
};

class Splicer {
  public:
    explicit Splicer(const Payloads& payloads) : payloads_(payloads) {}

    Rope spliceModel(Bytes model) {
        Rope result;
        FieldReader reader(model);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, model_field::graph)) {
                result.append(field->number, spliceGraph(field->payload));
            } else {
                result.append(field->whole);
            }
        }
        return result;
    }

  private:
    const Payloads& payloads_;

    Rope spliceGraph(Bytes graph) {
        Rope result;
        int nodes = 0;
        int initializers = 0;
        FieldReader reader(graph);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, graph_field::initializer)) {
                auto found = payloads_.initializers.find(initializers++);
                if (found != payloads_.initializers.end()) {
                    result.append(field->number, spliceTensor(field->payload, found->second));
                    continue;
                }
            } else if (holds(*field, graph_field::node)) {
                int node = nodes++;
                auto found = payloads_.attributes.lower_bound({node, 0});
                if (found != payloads_.attributes.end() && found->first.node == node) {
                    result.append(field->number, spliceNode(field->payload, node));
                    continue;
                }
            }
            result.append(field->whole);
        }
        return result;
    }

    Rope spliceNode(Bytes node, int index) {
        Rope result;
        int attributes = 0;
        FieldReader reader(node);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, node_field::attribute)) {
                auto found = payloads_.attributes.find({index, attributes++});
                if (found != payloads_.attributes.end()) {
                    result.append(field->number, spliceAttribute(field->payload, found->second));
                    continue;
                }
            }
            result.append(field->whole);
        }
        return result;
    }

    static Rope spliceAttribute(Bytes attribute, const Payload& payload) {
        Rope result;
        FieldReader reader(attribute);
        while (std::optional<Field> field = reader.next()) {
            if (holds(*field, attribute_field::tensor)) {
                result.append(field->number, spliceTensor(field->payload, payload));
            } else {
                result.append(field->whole);
            }
        }
        return result;
    }

    /// Protobuf writes fields by number: the payload goes before the first larger one.
    static Rope spliceTensor(Bytes tensor, const Payload& payload) {
        Rope result;
        bool placed = false;
        auto place = [&] {
            result.appendHeader(static_cast<std::uint32_t>(payload.field), payload.bytes.size());
            result.appendPayload(payload.bytes);
            placed = true;
        };
        FieldReader reader(tensor);
        while (std::optional<Field> field = reader.next()) {
            if (!placed && static_cast<int>(field->number) > payload.field) place();
            result.append(field->whole);
        }
        if (!placed) place();
        return result;
    }
};

}  // namespace

Skeleton cutPayloads(Bytes model) {
    Cutter cutter;
    Skeleton skeleton;
    skeleton.bytes = cutter.cutModel(model);
    skeleton.payloads = std::move(cutter.payloads);
    return skeleton;
}

std::vector<Piece> splicePayloads(const std::string& skeleton, const Payloads& payloads) {
    Rope rope = Splicer(payloads).spliceModel(std::as_bytes(std::span(skeleton.data(), skeleton.size())));
    if (!rope.tail.empty()) rope.pieces.push_back({std::move(rope.tail), {}});
    return std::move(rope.pieces);
}

}  // namespace tcompress::ir
