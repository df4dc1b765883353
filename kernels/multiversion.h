#pragma once
// TCOMPRESS_MULTIVERSION in front of a function compiles its body for AVX-512, for AVX2 with FMA, and for
// plain x86-64; the loader picks one for the processor. What it calls must be inlined into it
// (TCOMPRESS_INLINE) to be compiled likewise. Sanitizers run before the loader's choice is possible, so there
// is one version under them.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__) || \
    !defined(__GNUC__) || defined(__clang__)
#define TCOMPRESS_MULTIVERSION
#else
#define TCOMPRESS_MULTIVERSION [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#endif

#define TCOMPRESS_INLINE [[gnu::always_inline]] inline
