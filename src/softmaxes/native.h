// What the compiled halves share.
#ifndef SOFTMAXES_NATIVE_H
#define SOFTMAXES_NATIVE_H

#include <cstdint>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__)
// One copy for each generation of processors, chosen when the library is loaded.
#define EXPORT extern "C" __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(_MSC_VER)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define INLINE inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#define RESTRICT __restrict__
#else
#define INLINE inline
#define PREFETCH(address) ((void)0)
#define RESTRICT __restrict
#endif

constexpr int64_t CACHE_LINE = 64; // bytes

// Asks the memory for what is needed soon.
INLINE void ask_for_bytes(const void *begin, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += CACHE_LINE) PREFETCH((const char *)begin + at);
}

#endif
