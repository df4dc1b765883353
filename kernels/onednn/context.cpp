#include "kernels/onednn/context.h"

#include <omp.h>

namespace tcompress::kernels::onednn {

dnnl::memory ThreadContext::scratchpadOf(const dnnl::memory::desc& desc) {
    const auto bytes = static_cast<std::int64_t>(desc.get_size());
    if (scratchpad.size() < bytes) scratchpad = AlignedBuffer<std::byte>(bytes);
    return {desc, engine, scratchpad.data()};
}

ThreadContext& threadContext() {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    thread_local ThreadContext context = [] {
        omp_set_num_threads(1);
        return ThreadContext{engine, dnnl::stream(engine), {}};
    }();
    return context;
}

dnnl::primitive_attr callerScratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

}  // namespace tcompress::kernels::onednn
