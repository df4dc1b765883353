#include "kernels/onednn/int8_matmul.h"

#include <map>
#include <mutex>
#include <shared_mutex>
#include <tuple>

#include "kernels/onednn/context.h"
#include "lib/support/check.h"

namespace tcompress::kernels::onednn {

namespace {

using Desc = dnnl::memory::desc;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

Type typeOf(DType type) {
    TCOMPRESS_CHECK(type == DType::int8 || type == DType::uint8, "int8 product of another type");
    return type == DType::int8 ? Type::s8 : Type::u8;
}

Desc plainWeights(std::int64_t k, std::int64_t n) { return {{k, n}, Type::s8, Tag::ab}; }

Desc rowsDesc(std::int64_t rows, std::int64_t columns, Type type, std::int64_t stride) {
    return {{rows, columns}, type, dnnl::memory::dims{stride, 1}};
}

/// The layout oneDNN likes best for a full tile, used for every number of rows.
Desc packedWeights(std::int64_t k, std::int64_t n) {
    const dnnl::matmul::primitive_desc full(threadContext().engine, rowsDesc(kInt8TileRows, k, Type::u8, k),
                                            Desc({k, n}, Type::s8, Tag::any),
                                            rowsDesc(kInt8TileRows, n, Type::s32, n), callerScratchpad());
    return full.weights_desc();
}

struct Product {
    dnnl::matmul primitive;
    Desc a, c, scratchpad;
};

/// rows, k, n, type and row stride of A.
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, DType, std::int64_t>;

std::shared_ptr<const Product> productOf(const Key& key, const Desc& weights) {
    static std::shared_mutex mutex;
    static std::map<Key, std::shared_ptr<const Product>> products;
    {
        const std::shared_lock lock(mutex);
        if (const auto found = products.find(key); found != products.end()) return found->second;
    }
    const auto& [rows, k, n, type, stride] = key;
    auto made = std::make_shared<Product>();
    made->a = rowsDesc(rows, k, typeOf(type), stride);
    made->c = rowsDesc(rows, n, Type::s32, n);
    const dnnl::matmul::primitive_desc desc(threadContext().engine, made->a, weights, made->c,
                                            callerScratchpad());
    made->scratchpad = desc.scratchpad_desc();
    made->primitive = dnnl::matmul(desc);
    const std::unique_lock lock(mutex);
    return products.emplace(key, std::move(made)).first->second;
}

}  // namespace

struct Int8Block::Impl {
    std::int64_t k = 0, n = 0;
    Desc desc;
    AlignedBuffer<std::byte> bytes;
};

std::optional<std::string> refuseInt8() {
#if defined(__x86_64__)
    // __builtin_cpu_supports reads what the processor and the system can do together.
    if (__builtin_cpu_supports("avx512vnni") || __builtin_cpu_supports("avxvnni")) return std::nullopt;
    return "the processor has no VNNI, without which sums of 8-bit products may saturate";
#else
    return "only known to be exact on x86-64 with VNNI";
#endif
}

bool hasMatrixUnits() {
    // The values are bit sets: one instruction set's bits are part of those that include it.
    constexpr auto kAmx = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
    static const bool has = (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kAmx) == kAmx;
    return has;
}

Int8Block::Int8Block(const std::int8_t* b, std::int64_t k, std::int64_t n) : impl_(std::make_unique<Impl>()) {
    ThreadContext& context = threadContext();
    impl_->k = k;
    impl_->n = n;
    impl_->desc = packedWeights(k, n);
    impl_->bytes = AlignedBuffer<std::byte>(static_cast<std::int64_t>(impl_->desc.get_size()));
    dnnl::memory source(plainWeights(k, n), context.engine, const_cast<std::int8_t*>(b));
    dnnl::memory target(impl_->desc, context.engine, impl_->bytes.data());
    dnnl::reorder(source, target).execute(context.stream, source, target);
}

Int8Block::~Int8Block() = default;
Int8Block::Int8Block(Int8Block&&) noexcept = default;

std::int64_t Int8Block::columns() const { return impl_->n; }
std::size_t Int8Block::sizeBytes() const { return static_cast<std::size_t>(impl_->bytes.size()); }

std::vector<std::int8_t> Int8Block::plain() const {
    ThreadContext& context = threadContext();
    std::vector<std::int8_t> values(static_cast<std::size_t>(impl_->k * impl_->n));
    dnnl::memory source(impl_->desc, context.engine, impl_->bytes.data());
    dnnl::memory target(plainWeights(impl_->k, impl_->n), context.engine, values.data());
    dnnl::reorder(source, target).execute(context.stream, source, target);
    return values;
}

void Int8Block::multiply(const void* a, DType aType, std::int64_t aStride, std::int64_t rows,
                         std::int32_t* c) const {
    ThreadContext& context = threadContext();
    const auto product = productOf({rows, impl_->k, impl_->n, aType, aStride}, impl_->desc);
    product->primitive.execute(
        context.stream, {{DNNL_ARG_SRC, dnnl::memory(product->a, context.engine, const_cast<void*>(a))},
                         {DNNL_ARG_WEIGHTS, dnnl::memory(impl_->desc, context.engine, impl_->bytes.data())},
                         {DNNL_ARG_DST, dnnl::memory(product->c, context.engine, c)},
                         {DNNL_ARG_SCRATCHPAD, context.scratchpadOf(product->scratchpad)}});
}

}  // namespace tcompress::kernels::onednn
