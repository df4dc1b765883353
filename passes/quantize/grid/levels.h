#pragma once
// Sets of levels that weights divided by their group's scale are rounded to, and how levels are found for
// weights of one channel.

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::passes {

/// 2^bits levels from −1 to 1, ascending: quantiles of the normal distribution, with an exact 0. NF4 at 4 bits.
/// Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", appendix E.
std::vector<float> normalFloatLevels(int bits);

/// 2^bits levels, ascending: 0, and powers of two from 1 downwards, one more of them positive than negative.
/// Source: Miyashita et al. 2016, "Convolutional Neural Networks using Logarithmic Data Representation".
std::vector<float> powerOfTwoLevels(int bits);

/// At most `count` levels with the least Σ importance · (weight − nearest level)², ascending; padded with the
/// last one to `count`. Exact: dynamic programming over the sorted weights, of which the levels are means of
/// runs. Places without importance count a little.
/// Source: Wang and Song 2011, "Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic
/// Programming"; weighted by sensitivity: Kim et al. 2023, "SqueezeLLM: Dense-and-Sparse Quantization".
std::vector<float> bestLevels(std::span<const float> weights, std::span<const float> importance,
                              std::int64_t count);

/// The place of the level (ascending) that is nearest, the lower of two; of each value.
std::uint16_t nearestLevel(float value, std::span<const float> levels);
void nearestLevels(std::span<const float> values, std::span<const float> levels, std::uint16_t* places);

}  // namespace tcompress::passes
