#pragma once
// oneDNN on one thread at a time: primitives are made and run inside our own tasks, so its OpenMP must not
// start a team of its own. Every use of oneDNN goes through threadContext(), which sees to that on the
// calling thread.

#include <dnnl.hpp>

#include "kernels/aligned_buffer.h"

namespace tcompress::kernels::onednn {

struct ThreadContext {
    dnnl::engine engine;
    dnnl::stream stream;
    AlignedBuffer<std::byte> scratchpad;

    /// Scratch memory for one execution, wrapped as oneDNN wants it.
    dnnl::memory scratchpadOf(const dnnl::memory::desc& desc);
};

/// This thread's engine and stream (the engine is shared by all).
ThreadContext& threadContext();

/// Attributes all our primitives share: scratch memory comes from the caller, so one primitive may run in
/// many threads.
dnnl::primitive_attr callerScratchpad();

}  // namespace tcompress::kernels::onednn
