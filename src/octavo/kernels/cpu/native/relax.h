// A pause in a loop that waits for another core.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace octavo {

inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

}  // namespace octavo
