// integer_probe.h for one instruction set.

#include "integer_probe.h"

#include "kernel.h"
#include "probe_registers.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

namespace {

// Enough that none waits for its last sum.
constexpr int kSums = kWidth == 16 ? 24 : 8;

}  // namespace

int64_t multiply_int8(int64_t steps) {
    const int64_t num_threads = pool().num_threads();
    pool().parallel_for(num_threads, [&](int64_t) {
        alignas(64) const uint8_t weights[64] = {1, 2, 3};
        const Quads8 w = load_quads(weights);
        I32 x = broadcast_i32(0x01020304), sums[kSums];
#pragma GCC unroll 24
        for (int i = 0; i < kSums; ++i) sums[i] = x, forget(sums[i]);
        for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
            for (int i = 0; i < kSums; ++i) {
                forget(x);
                sums[i] = add_products(sums[i], w, x);
            }
        }
#pragma GCC unroll 24
        for (int i = 0; i < kSums; ++i) forget(sums[i]);
    });
    return num_threads * steps * kSums * kWidth * 4 * 2;
}

}  // namespace octavo::OCTAVO_ISA
