// Vectors of fp32 for kernels, the same names for every instruction set. Include in .isa.cc files only.
//
// F32 is the compiler's own vector type: + - * / work on it. All functions are in namespace octavo::OCTAVO_ISA.
//
//   kWidth                          lanes of an F32
//   zero(), broadcast(float)
//   load(p), store(p, v)            no alignment needed
//   load_first(p, n), store_first(p, v, n)     only the first n lanes (0 <= n <= kWidth); the others read as 0
//   fma(a, b, c)                    a * b + c; rounded once, except on the portable path
//   max(a, b), min(a, b)            b where one is NaN
//   sqrt(v), round_to_even(v)
//   ldexp(v, n)                     v * 2^n for whole n in [-160, 160], correct into and out of subnormals
//   sum(v), max_lane(v)             over the lanes; max_lane does not say where NaN goes
//   sum_each(v)                     the sum of v[i] in lane i, for an array of kWidth vectors; lanes are added as a binary tree
//                                   of neighbours: ((v0 + v1) + (v2 + v3)) + ...
//   load_bf16(p), load_f16(p)       kWidth 2-byte numbers, widened
//   store_bf16(p, v), store_f16(p, v)          rounded to nearest even; NaN stays NaN
//   load_bf16_pairs(p, low, high)   kWidth pairs of bf16: the first of each pair, the second of each pair
//   prefetch(p), prefetch_l2(p)     bring the cache line, kCacheLine bytes, in to the first or to the second level
// and from simd_math.h: exp(v), silu(v), gelu_tanh(v).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(OCTAVO_ISA_avx512) || defined(OCTAVO_ISA_avx512_vnni) || defined(OCTAVO_ISA_avx512_bf16) || \
    defined(OCTAVO_ISA_amx) || defined(OCTAVO_ISA_amx_modelled)
#include "simd_avx512.h"
#elif defined(OCTAVO_ISA_avx2)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

namespace octavo::OCTAVO_ISA {

constexpr int kCacheLine = 64;
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace octavo::OCTAVO_ISA

#include "simd_math.h"
