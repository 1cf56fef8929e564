// bf16_probe.h for one instruction set.

#include "bf16_probe.h"

#include "kernel.h"
#include "probe_registers.h"
#include "simd_bf16.h"

namespace octavo::OCTAVO_ISA {

namespace {

// Enough that none waits for its last sum.
constexpr int kSums = kWidth == 16 ? 24 : 8;

#if defined(OCTAVO_ISA_avx512_bf16)
inline void forget_pairs(Bf16Pairs& pairs) { forget(pairs); }
#else
inline void forget_pairs(Bf16Pairs& pairs) { forget(pairs.first), forget(pairs.second); }
#endif

}  // namespace

int64_t multiply_bf16(int64_t steps) {
    const int64_t num_threads = pool().num_threads();
    pool().parallel_for(num_threads, [&](int64_t) {
        alignas(64) const uint16_t weights[2 * kWidth] = {};
        alignas(64) const Bf16Input inputs[2] = {};
        const Bf16Pairs w = load_pairs(weights);
        Bf16Pairs x = broadcast_pair(inputs);
        F32 sums[kSums];
#pragma GCC unroll 24
        for (int i = 0; i < kSums; ++i) sums[i] = zero(), forget(sums[i]);
        for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
            for (int i = 0; i < kSums; ++i) {
                forget_pairs(x);
                sums[i] = add_products(sums[i], w, x);
            }
        }
#pragma GCC unroll 24
        for (int i = 0; i < kSums; ++i) forget(sums[i]);
    });
    return num_threads * steps * kSums * kWidth * 2 * 2;
}

}  // namespace octavo::OCTAVO_ISA
