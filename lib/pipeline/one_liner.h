#pragma once
// A pass on the command line: "prune/magnitude:sparsity=0.5,targets=role:ffn+op:Gemm" is the object
// {"type": "prune", "method": "magnitude", "sparsity": "0.5", "targets": "role:ffn+op:Gemm"}.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace tcompress::pipeline {

/// NAME[/METHOD][:KEY=VALUE[,KEY=VALUE…]]; every value stays a text. A key alone means true. A comma inside a
/// value is written "\,". Throws ConfigError when the text has another form.
nlohmann::json parseOneLiner(std::string_view text);

}  // namespace tcompress::pipeline
