#pragma once
// What an operator is to the executor: a function made once per node when the plan is made (attributes read, weights
// packed) and called at each run with the node's inputs. Rows of {domain, type, version, maker, types} stand in the
// tables of ops/*.cpp; op_registry.cpp lists the tables.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/exec/allocator.h"
#include "lib/exec/attributes.h"
#include "lib/exec/datum.h"
#include "lib/tensor/tensor.h"

namespace tcompress::exec {

class Program;

/// Inputs and outputs of one node during one run.
class OpContext {
  public:
    /// `dying` tells which inputs nobody reads after this node.
    OpContext(Allocator& allocator, std::span<const Datum* const> inputs, std::span<Datum> outputs,
              std::span<const std::uint8_t> wanted, std::span<const std::uint8_t> dying = {})
        : allocator_(&allocator), inputs_(inputs), outputs_(outputs), wanted_(wanted), dying_(dying) {}

    std::size_t inputCount() const { return inputs_.size(); }
    std::size_t outputCount() const { return outputs_.size(); }
    bool has(std::size_t i) const { return i < inputs_.size() && inputs_[i] != nullptr; }
    /// Throws ModelError when the input is left out or is no tensor.
    const Tensor& input(std::size_t i) const;
    const Tensor* optionalInput(std::size_t i) const { return has(i) ? &input(i) : nullptr; }
    /// Throws ModelError when the input is no sequence.
    const Sequence& sequence(std::size_t i) const;
    /// An input of any kind. Throws ModelError when it is left out.
    const Datum& datum(std::size_t i) const;
    template <class T>
    std::span<const T> data(std::size_t i) const {
        return input(i).data<T>();
    }
    bool wants(std::size_t output) const { return output < wanted_.size() && wanted_[output]; }

    /// Makes output i and gives its elements, not initialised. An output that nobody wants is made as well.
    template <class T>
    std::span<T> output(std::size_t i, Shape shape) {
        const std::int64_t count = elementCount(shape);
        return {reinterpret_cast<T*>(outputBytes(i, DTypeOf<T>::value, std::move(shape))),
                static_cast<std::size_t>(count)};
    }
    std::byte* outputBytes(std::size_t i, DType dtype, Shape shape);
    /// outputBytes for an element-wise operator: takes over the memory of a dying input of the same type and shape.
    std::byte* outputInPlace(std::size_t i, DType dtype, Shape shape);
    /// An output that is another tensor under another shape (no copy), one computed elsewhere, or no tensor.
    void setOutput(std::size_t i, Datum value);
    const Tensor& outputTensor(std::size_t i) const { return outputs_[i].tensor; }

    /// Working memory, valid while the returned owner lives.
    template <class T>
    std::shared_ptr<T> scratch(std::int64_t count) {
        std::shared_ptr<std::byte> bytes = allocator_->allocate(static_cast<std::size_t>(count) * sizeof(T));
        return {bytes, reinterpret_cast<T*>(bytes.get())};
    }
    /// A tensor in the arena that is no output (yet); `elements` gets its writable bytes.
    Tensor temporary(DType dtype, Shape shape, std::byte** elements);
    Allocator& allocator() { return *allocator_; }

  private:
    Allocator* allocator_;
    std::span<const Datum* const> inputs_;
    std::span<Datum> outputs_;
    std::span<const std::uint8_t> wanted_;
    std::span<const std::uint8_t> dying_;
};

using Runner = std::function<void(OpContext&)>;

/// What a maker knows of its node.
struct NodeInfo {
    Attributes attributes;
    std::string_view domain;
    std::int64_t version = 0;  ///< of the domain's operator set in the model
    /// By input position; null when the input is left out or computed at run time.
    std::vector<const Tensor*> constants;
    /// By input position; undefined when unknown.
    std::vector<DType> types;
    std::vector<std::uint8_t> inputs;   ///< by position: given?
    std::vector<std::uint8_t> outputs;  ///< by position: asked for?
    /// The plan of a sub-graph attribute. Its inputs are the sub-graph's own, then the captured values in the order
    /// of the node's inputs from `capturedFrom` on.
    std::function<std::shared_ptr<Program>(std::string_view attribute)> subprogram;
    std::size_t capturedFrom = 0;
    /// Set by a maker for a constant input that it packed: the function does not read it, so its memory may go.
    std::vector<std::uint8_t>* packed = nullptr;

    void markPacked(std::size_t i) const { (*packed)[i] = 1; }
    const Tensor* constant(std::size_t i) const { return i < constants.size() ? constants[i] : nullptr; }
    bool hasInput(std::size_t i) const { return i < inputs.size() && inputs[i]; }
    bool hasOutput(std::size_t i) const { return i < outputs.size() && outputs[i]; }
};

using Maker = Runner (*)(const NodeInfo&);

/// A set of element types.
class TypeSet {
  public:
    constexpr TypeSet(std::initializer_list<DType> types) {
        for (DType type : types) bits_ |= bit(type);
    }
    constexpr bool contains(DType type) const { return (bits_ & bit(type)) != 0; }
    constexpr TypeSet operator|(TypeSet other) const {
        TypeSet result = *this;
        result.bits_ |= other.bits_;
        return result;
    }

  private:
    static constexpr std::uint64_t bit(DType type) { return std::uint64_t{1} << static_cast<int>(type); }
    std::uint64_t bits_ = 0;
};

inline constexpr TypeSet kFloatTypes{DType::float32, DType::float64, DType::float16, DType::bfloat16};
inline constexpr TypeSet kIntegerTypes{DType::int8,  DType::uint8,  DType::int16, DType::uint16,
                                       DType::int32, DType::uint32, DType::int64, DType::uint64};
inline constexpr TypeSet kNumericTypes = kFloatTypes | kIntegerTypes;
inline constexpr TypeSet kLogicTypes = kNumericTypes | TypeSet{DType::boolean};
inline constexpr TypeSet kFloat8Types{DType::float8e4m3fn, DType::float8e4m3fnuz, DType::float8e5m2, DType::float8e5m2fnuz};
inline constexpr TypeSet kStoredTypes =
    kLogicTypes | kFloat8Types |
    TypeSet{DType::int4, DType::uint4, DType::int2, DType::uint2, DType::float4e2m1, DType::float8e8m0};
inline constexpr TypeSet kByteTypes{DType::int8, DType::uint8};

/// Which floating-point types an operator's function takes itself. The others are converted to float32 before it and
/// float32 outputs back to the type of the first floating-point input after it.
enum class FloatSupport {
    all,        ///< it only moves elements, or converts itself
    wide,       ///< float32 and float64
    float32,    ///< float32 alone
};

struct OperatorRow {
    std::string_view domain;
    std::string_view type;
    std::int64_t since;  ///< first version of the domain's operator set with these semantics
    Maker make;
    TypeSet types;  ///< of the first input
    FloatSupport floats = FloatSupport::wide;
    /// Whether the function runs a node with these attributes, inputs and outputs (no more is known of it yet); null: always. A
    /// node that is not accepted runs as the body of its operator's function definition.
    bool (*accepts)(const NodeInfo&) = nullptr;
};

/// Domain of operators that only fusion makes (ops/fused*.cpp).
inline constexpr std::string_view kFusedDomain = "tcompress";
inline constexpr std::string_view kContribDomain = "com.microsoft";

/// The row with the newest semantics that `version` has; null when the operator is not supported.
const OperatorRow* findOperator(std::string_view domain, std::string_view type, std::int64_t version);
/// All rows, table by table.
std::vector<const OperatorRow*> allOperators();

}  // namespace tcompress::exec
