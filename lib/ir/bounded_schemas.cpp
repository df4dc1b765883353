#include "lib/ir/bounded_schemas.h"

#include <map>
#include <memory>
#include <mutex>

namespace tcompress::ir {
namespace {

constexpr std::int64_t kLongestVector = 4096;

class BoundedContext final : public onnx::DataPropagationContext {
  public:
    explicit BoundedContext(onnx::DataPropagationContext& whole) : whole_(whole) {}

    const onnx::AttributeProto* getAttribute(const std::string& name) const override {
        return whole_.getAttribute(name);
    }
    std::size_t getNumInputs() const override { return whole_.getNumInputs(); }
    const onnx::TypeProto* getInputType(std::size_t index) const override { return whole_.getInputType(index); }
    std::size_t getNumOutputs() const override { return whole_.getNumOutputs(); }
    const onnx::TypeProto* getOutputType(std::size_t index) const override { return whole_.getOutputType(index); }
    const onnx::TensorShapeProto* getInputData(std::size_t index) override {
        const onnx::TypeProto* type = getInputType(index);
        if (type != nullptr && type->tensor_type().has_shape()) {
            const onnx::TensorShapeProto& shape = type->tensor_type().shape();
            if (shape.dim_size() == 1 && shape.dim(0).dim_value() > kLongestVector) return nullptr;
        }
        return whole_.getInputData(index);
    }
    void addOutputData(std::size_t index, onnx::TensorShapeProto&& data) override {
        whole_.addOutputData(index, std::move(data));
    }

  private:
    onnx::DataPropagationContext& whole_;
};

void boundVectors(onnx::OpSchema& schema) {
    schema.PartialDataPropagationFunction([follow = schema.GetDataPropagationFunction()](onnx::DataPropagationContext& context) {
        BoundedContext own(context);
        follow(own);
    });
}

void boundPieces(onnx::OpSchema& schema) {
    schema.TypeAndShapeInferenceFunction([infer = schema.GetTypeAndShapeInferenceFunction()](onnx::InferenceContext& context) {
        const onnx::AttributeProto* pieces = context.getAttribute("num_outputs");
        if (pieces == nullptr || pieces->i() == static_cast<std::int64_t>(context.getNumOutputs())) infer(context);
    });
}

class BoundedSchemas final : public onnx::ISchemaRegistry {
  public:
    const onnx::OpSchema* GetSchema(const std::string& name, int version,
                                    const std::string& domain) const override {
        const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Instance()->GetSchema(name, version, domain);
        if (schema == nullptr || !(schema->has_data_propagation_function() || name == "Split")) return schema;
        const std::lock_guard lock(mutex_);
        std::unique_ptr<onnx::OpSchema>& bounded = bounded_[schema];
        if (bounded == nullptr) {
            bounded = std::make_unique<onnx::OpSchema>(*schema);
            if (schema->has_data_propagation_function()) boundVectors(*bounded);
            if (name == "Split") boundPieces(*bounded);
        }
        return bounded.get();
    }

  private:
    mutable std::mutex mutex_;
    mutable std::map<const onnx::OpSchema*, std::unique_ptr<onnx::OpSchema>> bounded_;
};

}  // namespace

const onnx::ISchemaRegistry* boundedSchemas() {
    static const BoundedSchemas schemas;
    return &schemas;
}

}  // namespace tcompress::ir
