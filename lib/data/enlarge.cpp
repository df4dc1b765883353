#include "lib/data/enlarge.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "lib/data/inputs.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/random.h"

namespace tcompress::data {

namespace {

constexpr double kReplacedShare = 0.3;
constexpr double kZipfOffset = 2.7;

/// Token ids [samples, length] and where each sample's tokens are.
struct Tokens {
    std::int64_t samples = 0;
    std::int64_t length = 0;
    std::vector<std::int64_t> ids;
    std::vector<std::int64_t> first, last;  ///< by sample; last < first: no token

    std::int64_t at(std::int64_t sample, std::int64_t position) const {
        return ids[static_cast<std::size_t>(sample * length + position)];
    }
    /// Neither padding nor the first or last token.
    bool isInner(std::int64_t sample, std::int64_t position) const {
        return position > first[static_cast<std::size_t>(sample)] &&
               position < last[static_cast<std::size_t>(sample)];
    }
};

Tokens tokensOf(const Dataset& dataset, const Tensor& array) {
    Tokens tokens{array.shape()[0], array.shape()[1], toInt64(array), {}, {}};
    std::vector<std::int64_t> mask(tokens.ids.size(), 1);
    for (const auto& [name, other] : dataset.arrays())
        if (inputRole(name) == InputRole::attentionMask && other.shape() == array.shape())
            mask = toInt64(other);
    for (std::int64_t sample = 0; sample < tokens.samples; ++sample) {
        const auto begin = mask.begin() + sample * tokens.length, end = begin + tokens.length;
        const auto isToken = [](std::int64_t flag) { return flag != 0; };
        tokens.first.push_back(std::find_if(begin, end, isToken) - begin);
        const auto behind =
            std::find_if(std::make_reverse_iterator(end), std::make_reverse_iterator(begin), isToken);
        tokens.last.push_back(behind.base() - begin - 1);
    }
    return tokens;
}

/// Ids by falling probability under a Zipf law.
class ZipfIds {
  public:
    ZipfIds(const Tokens& tokens, std::int64_t vocabulary) {
        std::map<std::int64_t, std::int64_t> counts;
        for (std::int64_t sample = 0; sample < tokens.samples; ++sample)
            for (std::int64_t position = 0; position < tokens.length; ++position)
                if (tokens.isInner(sample, position)) ++counts[tokens.at(sample, position)];
        if (counts.empty()) return;
        for (const auto& [id, count] : counts) ids_.push_back(id);
        std::stable_sort(ids_.begin(), ids_.end(), [&](auto a, auto b) { return counts[a] > counts[b]; });
        for (std::int64_t id = counts.begin()->first; id < vocabulary; ++id)
            if (!counts.contains(id)) ids_.push_back(id);
        double sum = 0;
        for (std::size_t rank = 1; rank <= ids_.size(); ++rank)
            cumulated_.push_back(sum += 1.0 / (static_cast<double>(rank) + kZipfOffset));
    }

    std::int64_t draw(Random& random) const {
        const double point = random.uniform() * cumulated_.back();
        const auto found = std::upper_bound(cumulated_.begin(), cumulated_.end() - 1, point);
        return ids_[static_cast<std::size_t>(found - cumulated_.begin())];
    }

  private:
    std::vector<std::int64_t> ids_;
    std::vector<double> cumulated_;
};

/// One made sample's ids: `sample`, continued by `partner`, then with other tokens strewn in.
void makeSample(const Tokens& tokens, const ZipfIds& zipf, std::int64_t sample, std::int64_t partner,
                Random& random, std::vector<std::int64_t>& target) {
    const auto cut = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(tokens.length)));
    for (std::int64_t position = 0; position < tokens.length; ++position) {
        std::int64_t id = tokens.at(sample, position);
        if (tokens.isInner(sample, position)) {
            if (position >= cut && tokens.isInner(partner, position)) id = tokens.at(partner, position);
            if (random.uniform() < kReplacedShare) id = zipf.draw(random);
        }
        target.push_back(id);
    }
}

Tensor enlargedTokens(const Dataset& dataset, const std::string& name, const Enlargement& how,
                      std::int64_t vocabulary) {
    const Tensor& array = dataset.arrays().at(name);
    const Tokens tokens = tokensOf(dataset, array);
    const ZipfIds zipf(tokens, vocabulary);
    // Partners are the same for every array of a sample, so that pairs of sequences stay pairs.
    Random partners(how.seed, "data/enlarge/partners");
    Random random(how.seed, "data/enlarge/" + name);
    std::vector<std::int64_t> ids = tokens.ids;
    for (std::int64_t copy = 1; copy < how.factor; ++copy)
        for (std::int64_t sample = 0; sample < tokens.samples; ++sample) {
            const auto partner =
                static_cast<std::int64_t>(partners.below(static_cast<std::uint64_t>(tokens.samples)));
            makeSample(tokens, zipf, sample, partner, random, ids);
        }
    Shape shape = array.shape();
    shape[0] *= how.factor;
    return convert(Tensor::of<std::int64_t>(std::move(shape), ids), array.dtype());
}

Tensor repeated(const Tensor& array, std::int64_t factor) {
    Shape shape = array.shape();
    shape[0] *= factor;
    Tensor result(array.dtype(), std::move(shape));
    const std::span<std::byte> target = result.mutableBytes();
    for (std::int64_t copy = 0; copy < factor; ++copy)
        std::copy(array.bytes().begin(), array.bytes().end(),
                  target.begin() + copy * static_cast<std::int64_t>(array.sizeBytes()));
    return result;
}

constexpr double kMostMixed = 0.5;

/// The pictures, then made ones: (1 − m) · own + m · partner, both moved alike.
Tensor enlargedImages(const Tensor& array, const Enlargement& how, const std::string& name) {
    Tensor result = repeated(array, how.factor);
    const std::int64_t samples = array.shape()[0], channels = array.shape()[1];
    const std::int64_t height = array.shape()[2], width = array.shape()[3];
    Random partners(how.seed, "data/enlarge/partners");
    Random random(how.seed, "data/enlarge/" + name);
    const auto shift = [&](std::int64_t size) {
        const std::int64_t most = size / 8;
        return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(2 * most + 1))) - most;
    };
    const auto given = array.data<float>();
    float* made = result.mutableData<float>().data() + array.size();
    for (std::int64_t copy = 1; copy < how.factor; ++copy)
        for (std::int64_t sample = 0; sample < samples; ++sample) {
            const auto partner = static_cast<std::int64_t>(partners.below(static_cast<std::uint64_t>(samples)));
            const auto mixed = static_cast<float>(kMostMixed * random.uniform());
            const std::int64_t down = shift(height), right = shift(width);
            for (std::int64_t channel = 0; channel < channels; ++channel)
                for (std::int64_t y = 0; y < height; ++y)
                    for (std::int64_t x = 0; x < width; ++x) {
                        const std::int64_t inside =
                            (channel * height + std::clamp<std::int64_t>(y - down, 0, height - 1)) * width +
                            std::clamp<std::int64_t>(x - right, 0, width - 1);
                        const auto at = [&](std::int64_t picture) {
                            return given[static_cast<std::size_t>(picture * channels * height * width + inside)];
                        };
                        *made++ = (1 - mixed) * at(sample) + mixed * at(partner);
                    }
        }
    return result;
}

}  // namespace

std::set<std::string> imageInputs(const ir::Model& model) {
    std::set<std::string> result;
    for (const InputInfo& input : modelInputs(model))
        if (input.dtype == DType::float32 && input.dims.size() == 4 && inputRole(input.name) == InputRole::other)
            result.insert(input.name);
    return result;
}

std::map<std::string, std::int64_t> vocabularies(const ir::Model& model) {
    std::map<std::string, std::int64_t> result;
    for (const ir::Value* input : model.graph().inputs()) {
        const std::optional<std::int64_t> rows = indexedRows(*input);
        if (rows && isInteger(input->dtype()) && inputRole(input->name()) == InputRole::other)
            result.emplace(input->name(), *rows);
    }
    return result;
}

Dataset enlarged(const Dataset& dataset, const Enlargement& how) {
    TCOMPRESS_CHECK(how.factor >= 1, "an enlargement by less than 1");
    if (how.factor == 1 || dataset.sampleCount() == 0) return dataset;
    std::map<std::string, Tensor> arrays;
    bool isAnyMade = false;
    for (const auto& [name, array] : dataset.arrays()) {
        const auto vocabulary = how.vocabularies.find(name);
        const bool isTokens = vocabulary != how.vocabularies.end() && array.rank() == 2 && array.size() > 0;
        const bool isImage = how.images.contains(name) && array.rank() == 4 && array.dtype() == DType::float32;
        isAnyMade |= isTokens || isImage;
        arrays.emplace(name, isTokens  ? enlargedTokens(dataset, name, how, vocabulary->second)
                             : isImage ? enlargedImages(array, how, name)
                                       : repeated(array, how.factor));
    }
    if (!isAnyMade)
        throw DataError(fmt::format("{}: only sequences of token ids and pictures can be enlarged, and the model reads "
                                    "neither; leave out 'enlarge'",
                                    dataset.origin()));
    return Dataset(std::move(arrays), std::nullopt, dataset.origin());
}

}  // namespace tcompress::data
