// What a layer computes between its products: norms, rotary positions with the write to the KV cache, the gate.
#pragma once

#include <cstdint>

#include "kv_cache.h"

namespace octavo {

// All arrays are contiguous but for strides between rows, in elements.
struct RmsNormArgs {
    const float* x;  // [num_rows, size]
    int64_t x_stride;
    int64_t num_rows;
    int64_t size;
    const float* weight;    // [size]
    const float* residual;  // [num_rows, size], or null
    int64_t residual_stride;
    float eps;
    float* total;       // [num_rows, size]: x + residual; not written without a residual
    float* normalised;  // [num_rows, size]
};

void rms_norm(const RmsNormArgs& args);

// A gate of a feed-forward layer: its first half through a function, times the second.
struct GateArgs {
    const float* x;  // [num_rows, 2 * size]
    int64_t x_stride;
    int64_t num_rows;
    int64_t size;
    float* y;  // [num_rows, size]
};

void silu_and_mul(const GateArgs& args);
void gelu_tanh_and_mul(const GateArgs& args);

// The heads of a token are contiguous; `stride` is between tokens.
struct Heads {
    const float* data;
    int64_t stride;
};

// Normalise each head of query and key if there are weights, rotate them, and write key and value to the cache.
struct RotaryWriteKvArgs {
    Heads query, key, value;  // [num_tokens, num_heads or num_kv_heads, head_dim]
    int64_t num_tokens;
    int64_t num_heads;
    float* rotated;                   // [num_tokens, num_heads, head_dim]: the query
    const float* cos;  // [num_tokens, rotary_dim], of which the first half is read
    const float* sin;
    int64_t rotary_dim;              // the dimensions of a head from here on are not rotated
    const float* query_norm_weight;  // [head_dim], or null
    const float* key_norm_weight;
    float eps;
    KvCache cache;
    const int64_t* slots;  // [num_tokens]
};

void rotary_write_kv(const RotaryWriteKvArgs& args);

}  // namespace octavo
