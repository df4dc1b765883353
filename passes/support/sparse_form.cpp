#include "passes/support/sparse_form.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "lib/support/check.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

/// What a byte can say.
constexpr std::int64_t kCodes = 256;
constexpr std::int64_t kBits = 8;
/// Groups that are looked for.
constexpr std::array<std::int64_t, 5> kGroups = {2, 4, 8, 16, 32};

/// The types that are stored so; 0 for others.
std::size_t entryBytes(DType type) {
    switch (type) {
        case DType::float32:
            return 4;
        case DType::float16:
        case DType::bfloat16:
            return 2;
        case DType::int8:
        case DType::uint8:
            return 1;
        default:
            return 0;
    }
}

/// The entries of a tensor as words without a type, and the one that is not stored.
template <class Word>
struct Entries {
    std::vector<Word> words;
    Word fill = 0;

    explicit Entries(const Tensor& tensor) : words(static_cast<std::size_t>(tensor.size())) {
        std::memcpy(words.data(), tensor.bytes().data(), tensor.sizeBytes());
        if constexpr (sizeof(Word) == 1) {
            std::array<std::int64_t, kCodes> counts{};
            for (const Word word : words) ++counts[word];
            fill = static_cast<Word>(std::max_element(counts.begin(), counts.end()) - counts.begin());
        } else {
            constexpr auto kMinusZero = static_cast<Word>(Word{1} << (8 * sizeof(Word) - 1));
            std::replace(words.begin(), words.end(), kMinusZero, Word{0});
        }
    }
    std::int64_t count() const { return static_cast<std::int64_t>(words.size()); }
    std::int64_t zeros() const { return std::count(words.begin(), words.end(), fill); }
};

/// Calls `use` with the entries of the tensor.
template <class Use>
auto withEntries(const Tensor& tensor, Use use) {
    switch (entryBytes(tensor.dtype())) {
        case 4:
            return use(Entries<std::uint32_t>(tensor));
        case 2:
            return use(Entries<std::uint16_t>(tensor));
        default:
            return use(Entries<std::uint8_t>(tensor));
    }
}

std::int64_t roundedUp(std::int64_t value, std::int64_t step) { return (value + step - 1) / step; }

/// C(n, k), or more than a byte can say.
std::int64_t combinations(std::int64_t n, std::int64_t k) {
    std::int64_t result = 1;
    for (std::int64_t i = 1; i <= std::min(k, n - k); ++i) {
        result = result * (n - i + 1) / i;
        if (result > kCodes) return kCodes + 1;
    }
    return result;
}

/// The places that `keep` of `group` can have, as masks in ascending order.
std::vector<std::uint64_t> places(std::int64_t keep, std::int64_t group) {
    std::vector<std::uint64_t> masks;
    std::uint64_t mask = (std::uint64_t{1} << keep) - 1;
    while (mask < std::uint64_t{1} << group) {
        masks.push_back(mask);
        // The next number with as many bits (Gosper; Knuth, The Art of Computer Programming 4A, 7.1.3).
        const std::uint64_t low = mask & (~mask + 1), ripple = mask + low;
        mask = ((ripple ^ mask) >> 2) / low | ripple;
    }
    return masks;
}

/// The most entries that a group along the last axis stores.
template <class Word>
std::int64_t mostStored(const Entries<Word>& entries, std::int64_t group) {
    std::int64_t most = 0;
    for (std::int64_t begin = 0; begin < entries.count() && most < group; begin += group) {
        const auto from = entries.words.begin() + begin;
        most = std::max(most, group - std::count(from, from + group, entries.fill));
    }
    return most;
}

template <class Word>
void considerGroups(const Entries<Word>& entries, std::int64_t length, SparseForm base, std::optional<SparseForm>& best) {
    for (const std::int64_t group : kGroups) {
        if (length % group != 0) continue;
        SparseForm form = base;
        form.group = group;
        form.keep = std::max<std::int64_t>(1, mostStored(entries, group));
        const std::int64_t ways = combinations(group, form.keep);
        if (form.keep == group || ways > kCodes) continue;
        for (std::int64_t codes = ways; codes <= kCodes && form.groupsAByte < kCodes / group; codes *= ways) ++form.groupsAByte;
        const std::int64_t groups = entries.count() / group;
        const std::int64_t codes = roundedUp(groups, form.groupsAByte);
        form.bytes = codes + (codes * form.groupsAByte * form.keep + 1) * static_cast<std::int64_t>(sizeof(Word));
        if (!best || form.bytes < best->bytes) best = form;
    }
}

/// The entries that are stored, behind the fill value, and the codes of where they are.
template <class Word>
struct Stored {
    std::vector<Word> values;
    std::vector<std::uint8_t> codes;
};

template <class Word>
Stored<Word> asBitmask(const Entries<Word>& entries) {
    Stored<Word> stored{{entries.fill}, std::vector<std::uint8_t>(static_cast<std::size_t>(roundedUp(entries.count(), kBits)))};
    for (std::size_t i = 0; i < entries.words.size(); ++i) {
        if (entries.words[i] == entries.fill) continue;
        stored.values.push_back(entries.words[i]);
        std::uint8_t& code = stored.codes[i / kBits];
        code = static_cast<std::uint8_t>(code | 1U << i % kBits);
    }
    return stored;
}

template <class Word>
Stored<Word> asGroups(const Entries<Word>& entries, const SparseForm& form) {
    const std::vector<std::uint64_t> ways = places(form.keep, form.group);
    const std::int64_t groups = entries.count() / form.group;
    Stored<Word> stored{{entries.fill}, std::vector<std::uint8_t>(static_cast<std::size_t>(roundedUp(groups, form.groupsAByte)))};
    for (std::size_t byte = 0; byte < stored.codes.size(); ++byte) {
        std::size_t code = 0, place = 1;
        for (std::int64_t i = 0; i < form.groupsAByte; ++i, place *= ways.size()) {
            const std::int64_t index = static_cast<std::int64_t>(byte) * form.groupsAByte + i;
            // The last byte may speak of groups that are not there.
            const Word* group = index < groups ? entries.words.data() + index * form.group : nullptr;
            std::uint64_t mask = 0;
            for (std::int64_t k = 0; group != nullptr && k < form.group; ++k)
                if (group[k] != entries.fill) mask |= std::uint64_t{1} << k;
            for (std::int64_t k = 0; std::popcount(mask) < form.keep; ++k) mask |= std::uint64_t{1} << k;
            code += place * static_cast<std::size_t>(std::lower_bound(ways.begin(), ways.end(), mask) - ways.begin());
            for (std::int64_t k = 0; k < form.group; ++k)
                if (mask >> k & 1) stored.values.push_back(group == nullptr ? entries.fill : group[k]);
        }
        stored.codes[byte] = static_cast<std::uint8_t>(code);
    }
    return stored;
}

Tensor turned(const Tensor& tensor, const SparseForm& form) {
    return form.alongFirstAxis ? transpose(tensor, {1, 0}) : tensor;
}

}  // namespace

std::optional<SparseForm> sparseForm(const Tensor& tensor, SparseStorageKind kind) {
    if (entryBytes(tensor.dtype()) == 0 || tensor.size() < kBits) return std::nullopt;
    const auto whole = static_cast<std::int64_t>(tensor.sizeBytes());
    std::optional<SparseForm> best;
    SparseForm form;
    withEntries(tensor, [&](const auto& entries) {
        form.zeros = entries.zeros();
        form.bytes = roundedUp(entries.count(), kBits) +
                     (entries.count() - form.zeros + 1) * static_cast<std::int64_t>(entryBytes(tensor.dtype()));
        if (kind != SparseStorageKind::grouped) best = form;
        // Any N:M that saves bytes has this many zeros.
        if (kind != SparseStorageKind::bitmask && form.zeros >= entries.count() / kGroups.back() && tensor.rank() > 0)
            considerGroups(entries, tensor.shape().back(), form, best);
    });
    if (kind != SparseStorageKind::bitmask && tensor.rank() == 2 && form.zeros >= tensor.size() / kGroups.back()) {
        form.alongFirstAxis = true;
        withEntries(turned(tensor, form), [&](const auto& entries) { considerGroups(entries, tensor.shape()[0], form, best); });
    }
    if (best && best->bytes >= whole) best.reset();
    return best;
}

ir::Value* SparseWriter::patterns(const SparseForm& form) {
    ir::Value*& value = patterns_[{form.keep, form.group}];
    if (value != nullptr) return value;
    std::vector<std::uint8_t> marks;
    if (!form.isGrouped()) {
        for (unsigned code = 0; code < kCodes; ++code)
            for (unsigned bit = 0; bit < kBits; ++bit) marks.push_back(code >> bit & 1);
    } else {
        const std::vector<std::uint64_t> ways = places(form.keep, form.group);
        std::size_t codes = 1;
        for (std::int64_t i = 0; i < form.groupsAByte; ++i) codes *= ways.size();
        for (std::size_t code = 0; code < codes; ++code) {
            std::size_t rest = code;
            for (std::int64_t i = 0; i < form.groupsAByte; ++i, rest /= ways.size())
                for (std::int64_t k = 0; k < form.group; ++k) marks.push_back(ways[rest % ways.size()] >> k & 1);
        }
    }
    const std::int64_t rows = static_cast<std::int64_t>(marks.size()) / form.run();
    return value = edit_.addInitializer("patterns",
                                        Tensor::of<std::uint8_t>({rows, form.run()}, std::span<const std::uint8_t>(marks)));
}

ir::Value* SparseWriter::integers(const Shape& values) {
    ir::Value*& value = integers_[values];
    if (value == nullptr) value = emitIntegers(edit_, values);
    return value;
}

ir::Value* SparseWriter::store(const std::string& name, const Tensor& tensor, const SparseForm& form) {
    const Tensor source = turned(tensor, form);
    ir::Value *codes = nullptr, *values = nullptr;
    std::int64_t run = 0;
    withEntries(source, [&]<class Word>(const Entries<Word>& entries) {
        const Stored<Word> stored = form.isGrouped() ? asGroups(entries, form) : asBitmask(entries);
        run = static_cast<std::int64_t>(stored.codes.size()) * form.run();
        Tensor packed(tensor.dtype(), {static_cast<std::int64_t>(stored.values.size())});
        std::memcpy(packed.mutableBytes().data(), stored.values.data(), packed.sizeBytes());
        values = edit_.addInitializer(name + "_values", std::move(packed));
        codes = edit_.addInitializer(name + "_places",
                                     Tensor::of<std::uint8_t>({static_cast<std::int64_t>(stored.codes.size())},
                                                              std::span<const std::uint8_t>(stored.codes)));
    });
    TCOMPRESS_CHECK(static_cast<std::int64_t>(codes->constant()->sizeBytes() + values->constant()->sizeBytes()) == form.bytes,
                    "a sparse form takes the bytes that were predicted");
    if (axis_ == nullptr) axis_ = edit_.addInitializer("first_axis", Tensor::scalar<std::int64_t>(0));
    ir::Value* marks = emit(edit_, "Gather", {patterns(form), emitCast(edit_, codes, DType::int32)});
    marks = emit(edit_, "Reshape", {emitCast(edit_, marks, DType::int32), integers({-1})});
    ir::Value* index = emit(edit_, "Mul", {emit(edit_, "CumSum", {marks, axis_}), marks});
    ir::Value* result = emit(edit_, "Gather", {values, index});
    if (run != source.size())
        result = emit(edit_, "Slice", {result, integers({0}), integers({source.size()})});
    result = emit(edit_, "Reshape", {result, integers(source.shape())});
    return form.alongFirstAxis ? emit(edit_, "Transpose", {result}, {{"perm", std::vector<std::int64_t>{1, 0}}}) : result;
}

}  // namespace tcompress::passes
