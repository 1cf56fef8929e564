// Vectors of whole numbers for products of 8-bit and 4-bit weights with int8 activations. Include in .isa.cc files only.
//
// I32 has kWidth lanes of 32 bits. A lane may also hold a quad: four numbers of one byte, those of four neighbouring
// features of one column. Activations are from -127 to 127.
//
//   broadcast_i32(value), load_i32(p), store_i32(p, v), to_f32(v), add_i32(a, b), subtract_i32(a, b)
//   broadcast_quad(p)               the four bytes at p in every lane
//   multiply_small(a, b)            products of lanes; factors and products fit: a in [0, 2^15), b in [-2^15, 2^15)
//   load_u16(p)                     kWidth 2-byte numbers, widened
//   store_int8(p, v)                whole numbers in [-128, 127], one byte each
//   load_int8(p)                    the same back
//
// 8-bit weights are stored with 128 added. Add the products of a quad of each to sums:
//   load_quads(p)                   kWidth quads of weights, made ready: a Quads8
//   add_products(sums, w, x)
//   kOffset                         what is still added to each weight then: the caller takes it off, times the sum of x
//
// 4-bit weights are unsigned. Products of kFeaturesAUnit features at a time are summed in a vector of its own kind:
//   load_nibbles(p, first, second)  kWidth times eight weights: quads of the low, and of the high four bits of each byte
//   start_unit(sums), add_nibbles(unit, w, x), end_unit(sums, unit)
#pragma once

#include "simd.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kFeaturesAUnit = 32;

#if defined(OCTAVO_ISA_portable)

typedef int8_t S8 __attribute__((vector_size(4)));

inline I32 broadcast_i32(int32_t value) { return I32{value, value, value, value}; }
inline I32 broadcast_quad(const int8_t* p) {
    int32_t quad;
    std::memcpy(&quad, p, sizeof quad);
    return broadcast_i32(quad);
}
inline F32 to_f32(I32 v) { return __builtin_convertvector(v, F32); }
inline I32 load_i32(const int32_t* p) { return load_vector<I32>(p); }
inline void store_i32(int32_t* p, I32 v) { std::memcpy(p, &v, sizeof v); }
inline I32 add_i32(I32 a, I32 b) { return a + b; }
inline I32 subtract_i32(I32 a, I32 b) { return a - b; }
inline I32 multiply_small(I32 a, I32 b) { return a * b; }
inline I32 load_u16(const uint16_t* p) { return bits_of<I32>(widen(p)); }
inline void store_int8(int8_t* p, F32 v) {
    const S8 narrow = __builtin_convertvector(__builtin_convertvector(v, I32), S8);
    std::memcpy(p, &narrow, sizeof narrow);
}
inline F32 load_int8(const int8_t* p) { return __builtin_convertvector(load_vector<S8>(p), F32); }

using Quads8 = I32;
constexpr int32_t kOffset = 0;
inline Quads8 load_quads(const uint8_t* p) { return load_vector<I32>(p) ^ broadcast_i32(static_cast<int32_t>(0x80808080)); }
inline I32 add_products(I32 sums, Quads8 w, I32 x) {
    return sums + (w << 24 >> 24) * (x << 24 >> 24) + (w << 16 >> 24) * (x << 16 >> 24) +
           (w << 8 >> 24) * (x << 8 >> 24) + (w >> 24) * (x >> 24);
}

using Unit = I32;
inline void load_nibbles(const uint8_t* p, I32& first, I32& second) {
    const I32 both = load_vector<I32>(p), mask = broadcast_i32(0x0f0f0f0f);
    first = both & mask;
    second = both >> 4 & mask;
}
inline Unit start_unit(I32 sums) { return sums; }
inline Unit add_nibbles(Unit unit, I32 w, I32 x) { return add_products(unit, w, x); }
inline I32 end_unit(I32, Unit unit) { return unit; }

#elif defined(OCTAVO_ISA_avx2)

using I32 = __m256i;

inline I32 load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline I32 broadcast_i32(int32_t value) { return _mm256_set1_epi32(value); }
inline I32 broadcast_quad(const int8_t* p) {
    int32_t quad;
    std::memcpy(&quad, p, sizeof quad);
    return _mm256_set1_epi32(quad);
}
inline F32 to_f32(I32 v) { return _mm256_cvtepi32_ps(v); }
inline I32 load_i32(const int32_t* p) { return load_bytes(p); }
inline void store_i32(int32_t* p, I32 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline I32 add_i32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
inline I32 subtract_i32(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
inline I32 multiply_small(I32 a, I32 b) { return _mm256_madd_epi16(a, b); }
inline I32 load_u16(const uint16_t* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_int8(int8_t* p, F32 v) {
    const __m256i wide = _mm256_cvtps_epi32(v);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(narrow, narrow));
}
inline F32 load_int8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// The sign of each weight moves to the activation: pairs of products then fit 16 bits (2 * 128 * 127 < 2^15).
struct Quads8 {
    __m256i magnitudes, signs;
};
constexpr int32_t kOffset = 0;
inline Quads8 load_quads(const uint8_t* p) {
    const __m256i w = _mm256_xor_si256(load_bytes(p), _mm256_set1_epi8(static_cast<char>(0x80)));
    return {_mm256_abs_epi8(w), w};
}
inline I32 add_products(I32 sums, const Quads8& w, I32 x) {
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes, _mm256_sign_epi8(x, w.signs));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Sums of pairs of products in 16 bits: 16 products of at most 15 * 127 fit.
using Unit = __m256i;
inline void load_nibbles(const uint8_t* p, I32& first, I32& second) {
    const __m256i both = load_bytes(p), mask = _mm256_set1_epi8(15);
    first = _mm256_and_si256(both, mask);
    second = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
}
inline Unit start_unit(I32) { return _mm256_setzero_si256(); }
inline Unit add_nibbles(Unit unit, I32 w, I32 x) { return _mm256_add_epi16(unit, _mm256_maddubs_epi16(w, x)); }
inline I32 end_unit(I32 sums, Unit unit) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(unit, _mm256_set1_epi16(1)));
}

#else

using I32 = __m512i;

inline I32 load_bytes(const void* p) { return _mm512_loadu_si512(p); }
inline I32 broadcast_i32(int32_t value) { return _mm512_set1_epi32(value); }
inline I32 broadcast_quad(const int8_t* p) {
    int32_t quad;
    std::memcpy(&quad, p, sizeof quad);
    return _mm512_set1_epi32(quad);
}
inline F32 to_f32(I32 v) { return _mm512_cvtepi32_ps(v); }
inline I32 load_i32(const int32_t* p) { return load_bytes(p); }
inline void store_i32(int32_t* p, I32 v) { _mm512_storeu_si512(p, v); }
inline I32 add_i32(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
inline I32 subtract_i32(I32 a, I32 b) { return _mm512_sub_epi32(a, b); }
inline I32 multiply_small(I32 a, I32 b) { return _mm512_madd_epi16(a, b); }
inline I32 load_u16(const uint16_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_int8(int8_t* p, F32 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
inline F32 load_int8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void load_nibbles(const uint8_t* p, I32& first, I32& second) {
    const __m512i both = load_bytes(p), mask = _mm512_set1_epi8(15);
    first = _mm512_and_si512(both, mask);
    second = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
}

#if defined(OCTAVO_ISA_avx512_vnni)

// The instruction multiplies unsigned numbers with signed ones, so weights are taken as they are stored.
using Quads8 = __m512i;
constexpr int32_t kOffset = 128;
inline Quads8 load_quads(const uint8_t* p) { return load_bytes(p); }
inline I32 add_products(I32 sums, Quads8 w, I32 x) { return _mm512_dpbusd_epi32(sums, w, x); }

using Unit = __m512i;
inline Unit start_unit(I32 sums) { return sums; }
inline Unit add_nibbles(Unit unit, I32 w, I32 x) { return _mm512_dpbusd_epi32(unit, w, x); }
inline I32 end_unit(I32, Unit unit) { return unit; }

#else

// As with AVX2, but there is no instruction that moves signs.
struct Quads8 {
    __m512i magnitudes;
    __mmask64 is_negative;
};
constexpr int32_t kOffset = 0;
inline Quads8 load_quads(const uint8_t* p) {
    const __m512i w = _mm512_xor_si512(load_bytes(p), _mm512_set1_epi8(static_cast<char>(0x80)));
    return {_mm512_abs_epi8(w), _mm512_movepi8_mask(w)};
}
inline I32 add_products(I32 sums, const Quads8& w, I32 x) {
    const __m512i signed_x = _mm512_mask_sub_epi8(x, w.is_negative, _mm512_setzero_si512(), x);
    const __m512i pairs = _mm512_maddubs_epi16(w.magnitudes, signed_x);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

using Unit = __m512i;
inline Unit start_unit(I32) { return _mm512_setzero_si512(); }
inline Unit add_nibbles(Unit unit, I32 w, I32 x) { return _mm512_add_epi16(unit, _mm512_maddubs_epi16(w, x)); }
inline I32 end_unit(I32 sums, Unit unit) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(unit, _mm512_set1_epi16(1)));
}

#endif
#endif

}  // namespace octavo::OCTAVO_ISA
