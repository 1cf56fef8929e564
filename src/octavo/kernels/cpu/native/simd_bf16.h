// Products of bf16 numbers with sums in fp32, two features at a time, the same names for every instruction set. Include in
// .isa.cc files only.
//
//   Bf16Input            an activation that was rounded to bf16, in the type in which it is multiplied
//   Bf16Pairs            kWidth pairs of bf16
//   store_input(p, v)    round to nearest even; NaN stays NaN
//   load_pairs(p)        kWidth pairs of weights
//   broadcast_pair(p)    the two activations at p, in each lane
//   add_products(sums, w, x)     sums + w.first * x.first + w.second * x.second
//
// AVX-512 BF16 rounds after each product, takes subnormal inputs as zero and makes subnormal results zero; what it adds
// first is its own affair. The others multiply in fp32, the first of a pair first.
#pragma once

#include "simd.h"

namespace octavo::OCTAVO_ISA {

#if defined(OCTAVO_ISA_avx512_bf16)

using Bf16Input = uint16_t;
using Bf16Pairs = __m512bh;

inline void store_input(Bf16Input* p, F32 v) { store_bf16(p, v); }
inline Bf16Pairs load_pairs(const uint16_t* p) { return (Bf16Pairs)_mm512_loadu_si512(p); }
inline Bf16Pairs broadcast_pair(const Bf16Input* p) {
    int pair;
    std::memcpy(&pair, p, sizeof pair);
    return (Bf16Pairs)_mm512_set1_epi32(pair);
}
inline F32 add_products(F32 sums, Bf16Pairs w, Bf16Pairs x) { return _mm512_dpbf16_ps(sums, w, x); }

#elif defined(OCTAVO_ISA_amx) || defined(OCTAVO_ISA_amx_modelled)

// What is multiplied goes to tiles (tiles.h), not to vectors of pairs.
using Bf16Input = uint16_t;

inline void store_input(Bf16Input* p, F32 v) { store_bf16(p, v); }

#else

using Bf16Input = float;
struct Bf16Pairs {
    F32 first, second;
};

inline void store_input(Bf16Input* p, F32 v) {
    uint16_t narrow[kWidth];
    store_bf16(narrow, v);
    store(p, load_bf16(narrow));
}
inline Bf16Pairs load_pairs(const uint16_t* p) {
    Bf16Pairs pairs;
    load_bf16_pairs(p, pairs.first, pairs.second);
    return pairs;
}
inline Bf16Pairs broadcast_pair(const Bf16Input* p) { return {broadcast(p[0]), broadcast(p[1])}; }
inline F32 add_products(F32 sums, Bf16Pairs w, Bf16Pairs x) {
    return fma(w.second, x.second, fma(w.first, x.first, sums));
}

#endif

}  // namespace octavo::OCTAVO_ISA
