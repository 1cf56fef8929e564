// How numbers of the KV cache are read and written: one type for each KvType. Include in .isa.cc files only.
#pragma once

#include "kv_cache.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

struct Fp32Kv {
    using Item = float;
    static constexpr bool kScaled = false;
    static F32 load(const float* p) { return OCTAVO_ISA::load(p); }
    static F32 load_first(const float* p, int n) { return OCTAVO_ISA::load_first(p, n); }
    static void store(float* p, F32 v) { OCTAVO_ISA::store(p, v); }
    static void store_first(float* p, F32 v, int n) { OCTAVO_ISA::store_first(p, v, n); }
};

// Two-byte numbers: Widen says how a full vector is read and written; a part of one goes through a copy.
template <typename Widen>
struct NarrowKv {
    using Item = uint16_t;
    static constexpr bool kScaled = false;
    static F32 load(const uint16_t* p) { return Widen::load(p); }
    static F32 load_first(const uint16_t* p, int n) {
        uint16_t lanes[kWidth] = {};
        for (int i = 0; i < n; ++i) lanes[i] = p[i];
        return Widen::load(lanes);
    }
    static void store(uint16_t* p, F32 v) { Widen::store(p, v); }
    static void store_first(uint16_t* p, F32 v, int n) {
        uint16_t lanes[kWidth];
        Widen::store(lanes, v);
        for (int i = 0; i < n; ++i) p[i] = lanes[i];
    }
};

struct WidenBf16 {
    static F32 load(const uint16_t* p) { return load_bf16(p); }
    static void store(uint16_t* p, F32 v) { store_bf16(p, v); }
};

struct WidenFp16 {
    static F32 load(const uint16_t* p) { return load_f16(p); }
    static void store(uint16_t* p, F32 v) { store_f16(p, v); }
};

using Bf16Kv = NarrowKv<WidenBf16>;
using Fp16Kv = NarrowKv<WidenFp16>;

// Whole numbers, which the caller multiplies with the scale of their token and head.
struct Int8Kv {
    using Item = int8_t;
    static constexpr bool kScaled = true;
    static F32 load(const int8_t* p) { return load_int8(p); }
    static F32 load_first(const int8_t* p, int n) {
        int8_t lanes[kWidth] = {};
        for (int i = 0; i < n; ++i) lanes[i] = p[i];
        return load_int8(lanes);
    }
    static void store(int8_t* p, F32 v) { store_int8(p, v); }
    static void store_first(int8_t* p, F32 v, int n) {
        int8_t lanes[kWidth];
        store_int8(lanes, v);
        for (int i = 0; i < n; ++i) p[i] = lanes[i];
    }
};

// Call body(Fp32Kv()), body(Bf16Kv()), body(Fp16Kv()) or body(Int8Kv()), whichever `type` says.
template <typename Body>
inline void with_kv_type(KvType type, Body&& body) {
    switch (type) {
        case KvType::bf16:
            return body(Bf16Kv());
        case KvType::fp16:
            return body(Fp16Kv());
        case KvType::int8:
            return body(Int8Kv());
        default:
            return body(Fp32Kv());
    }
}

}  // namespace octavo::OCTAVO_ISA
