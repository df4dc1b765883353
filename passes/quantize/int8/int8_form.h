#pragma once
// Linear layers as products of integers: what the graph becomes.
//
//   y = MatMul(x, W)                                           (Gemm likewise, with its bias added behind)
//
// where ranges are measured on each run, which ONNX Runtime fuses into DynamicQuantizeMatMul, or MatMulIntegerToFloat
// where several layers read x:
//
//   xq, sx, zx = DynamicQuantizeLinear(x)
//   y = Cast(MatMulInteger(xq, Wq, zx)) · (sx · sW)
//
// where they are constants, which it fuses into MatMulIntegerToFloat (MatMulInteger with constant scales it does not):
//
//   xd = DequantizeLinear(QuantizeLinear(x, sx, zx), sx, zx)
//   y = MatMul(xd, DequantizeLinear(Wq, sW))
//
// (Gemm of the two and a bias of int32 codes where x is a matrix: it would make a Gemm of a MatMul and an Add there, and
// that multiplies codes only so. A bias that cannot be codes: the first product, with constant ranges.)
// The quantized input is one for all the layers that read x.

#include <map>
#include <memory>
#include <string>

#include "lib/ir/edit.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/int8/calibrated_int8.h"

namespace tcompress::passes {

/// Why a linear site cannot take the integer form; empty when it can.
std::string int8Refusal(const analysis::Site& site, const Tensor& weight);

class Int8Form {
  public:
    /// `prepared`: all layers that will be rewritten with evidence; stays alive and unchanged.
    Int8Form(ir::Edit& edit, const std::map<const TargetWeight*, PreparedWeight>& prepared,
             pipeline::PassReport& report);
    ~Int8Form();
    Int8Form(const Int8Form&) = delete;
    Int8Form& operator=(const Int8Form&) = delete;

    /// Rewrites all sites of a weight, or none, and reports them. `prepared`: null where the weight is rounded by
    /// `rule` alone.
    void quantize(const TargetWeight& weight, const QuantizationRule& rule, const PreparedWeight* prepared);

  private:
    class Rewriter;
    std::unique_ptr<Rewriter> rewriter_;
};

}  // namespace tcompress::passes
