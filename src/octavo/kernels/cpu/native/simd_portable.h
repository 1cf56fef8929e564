// simd.h in the vector extensions of GCC and Clang: four lanes, for any processor (SSE2 and NEON have such registers).
#pragma once

namespace octavo::OCTAVO_ISA {

typedef float F32 __attribute__((vector_size(16)));
typedef int32_t I32 __attribute__((vector_size(16)));
typedef uint32_t U32 __attribute__((vector_size(16)));
typedef uint16_t U16 __attribute__((vector_size(8)));
constexpr int kWidth = 4;

template <typename To, typename From>
inline To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
template <typename Vector>
inline Vector load_vector(const void* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline F32 choose(I32 condition, F32 yes, F32 no) {
    return bits_of<F32>((bits_of<I32>(yes) & condition) | (bits_of<I32>(no) & ~condition));
}

inline F32 broadcast(float value) { return F32{value, value, value, value}; }
inline F32 zero() { return F32{}; }
inline F32 load(const float* p) { return load_vector<F32>(p); }
inline void store(float* p, F32 v) { std::memcpy(p, &v, sizeof v); }
inline F32 load_first(const float* p, int n) {
    F32 v = zero();
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
inline void store_first(float* p, F32 v, int n) {
    for (int i = 0; i < n; ++i) p[i] = v[i];
}

inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 max(F32 a, F32 b) { return choose(a > b, a, b); }
inline F32 min(F32 a, F32 b) { return choose(a < b, a, b); }
inline F32 sqrt(F32 v) {
    for (int i = 0; i < kWidth; ++i) v[i] = __builtin_sqrtf(v[i]);
    return v;
}
// A sum of 2^23 and a smaller number has no fraction bits; from 2^23 on all numbers are whole.
inline F32 round_to_even(F32 v) {
    const F32 magic = broadcast(8388608.0f);
    const U32 sign = bits_of<U32>(v) & 0x80000000;
    const F32 magnitude = bits_of<F32>(bits_of<U32>(v) & 0x7fffffff);
    const F32 whole = (magnitude + magic) - magic;
    return choose(magnitude < magic, bits_of<F32>(bits_of<U32>(whole) | sign), v);
}

inline F32 power_of_two(I32 n) { return bits_of<F32>((n + 127) << 23); }
// In two steps, of which only the second rounds: one power of two does not reach all exponents.
inline F32 ldexp(F32 v, F32 n) {
    const I32 whole = __builtin_convertvector(n, I32);
    const I32 half = whole >> 1;
    return v * power_of_two(half) * power_of_two(whole - half);
}

inline float sum(F32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline F32 sum_each(const F32* v) {
    const auto neighbours = [](F32 v) { return (v[0] + v[1]) + (v[2] + v[3]); };
    return F32{neighbours(v[0]), neighbours(v[1]), neighbours(v[2]), neighbours(v[3])};
}
inline float max_lane(F32 v) {
    const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

inline U32 widen(const uint16_t* p) { return __builtin_convertvector(load_vector<U16>(p), U32); }
inline void store_narrow(uint16_t* p, U32 v) {
    const U16 narrow = __builtin_convertvector(v, U16);
    std::memcpy(p, &narrow, sizeof narrow);
}

inline F32 load_bf16(const uint16_t* p) { return bits_of<F32>(widen(p) << 16); }

inline void store_bf16(uint16_t* p, F32 v) {
    const U32 bits = bits_of<U32>(v);
    const U32 rounded = bits + ((bits >> 16) & 1) + 0x7fff;
    const U32 is_nan = bits_of<U32>(v != v);
    store_narrow(p, ((rounded & ~is_nan) | ((bits | 0x00400000) & is_nan)) >> 16);
}

// The bits of exponent and fraction land where fp32 has them; multiplying by 2^112 corrects the exponent's bias, also
// of subnormals. Infinity and NaN have the largest exponent and get fp32's.
inline F32 load_f16(const uint16_t* p) {
    const U32 half = widen(p);
    const F32 finite = bits_of<F32>((half & 0x7fff) << 13) * broadcast(0x1p112f);
    const U32 is_special = bits_of<U32>((half & 0x7c00) == 0x7c00);
    return bits_of<F32>(bits_of<U32>(finite) | (is_special & 0x7f800000) | ((half & 0x8000) << 16));
}

inline uint16_t to_f16(float value) {
    const uint32_t bits = bits_of<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above round to infinity
    if (magnitude < 0x38800000) {  // below 2^-14: adding 0.5 leaves the subnormal's ten bits at the end
        const float shifted = bits_of<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (bits_of<uint32_t>(shifted) - 0x3f000000));
    }
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

inline void store_f16(uint16_t* p, F32 v) {
    for (int i = 0; i < kWidth; ++i) p[i] = to_f16(v[i]);
}

// The first of a pair is the low half of its 32 bits, as on every processor that is little-endian.
inline void load_bf16_pairs(const uint16_t* p, F32& low, F32& high) {
    const U32 pairs = load_vector<U32>(p);
    low = bits_of<F32>(pairs << 16);
    high = bits_of<F32>(pairs & 0xffff0000);
}

}  // namespace octavo::OCTAVO_ISA
