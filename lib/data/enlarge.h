#pragma once
// More calibration samples than were given. A few thousand tokens are too few to solve for a thousand
// channels; token sequences made from the given ones do nearly as well there as real text. They are no text,
// so they are only made when a user asks for them, and the report says so.

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "lib/data/dataset.h"

namespace tcompress::data {

struct Enlargement {
    std::int64_t factor = 1;  ///< samples for each one given, itself included; 1 = as given
    std::uint64_t seed = 0;
    std::map<std::string, std::int64_t> vocabularies;  ///< of inputs with token ids: ids are below this
    std::set<std::string> images = {};                 ///< inputs [samples, channels, height, width]
    /// Whether there is an input of which samples can be made.
    bool isPossible() const { return !vocabularies.empty() || !images.empty(); }
};

/// Inputs of the model with token ids, and how many rows the table has that they index.
std::map<std::string, std::int64_t> vocabularies(const ir::Model& model);

/// Inputs of the model that are pictures: float32 with four axes, and no key-value cache.
std::set<std::string> imageInputs(const ir::Model& model);

/// The samples given, then factor − 1 samples made from each of them. In every array of token ids the second
/// part of the sequence, from a random place on, is another sample's, position by position; then 30 % of the
/// tokens become ids drawn from a Zipf law, p(rank) ∝ 1 / (rank + 2.7) (Mandelbrot 1953), where the ids of
/// the data come first, by their count, then the rest of the vocabulary above the smallest of them, by number
/// (vocabularies are built by frequency; special tokens and unused ids stand below). The first and the last
/// token of a sequence (where the attention mask has tokens) stay, and so do all other arrays. A picture is mixed with
/// another sample's, up to half of it, and moved by up to an eighth of its height and width, edges continued (Zhang et
/// al. 2018, "mixup"). Labels are dropped. Throws DataError when no array holds token ids or pictures.
Dataset enlarged(const Dataset& dataset, const Enlargement& how);

}  // namespace tcompress::data
