// Causal grouped-query attention that reads keys and values where they are in the paged cache.
#pragma once

#include <cstdint>

#include "kv_cache.h"

namespace octavo {

// Strides are in elements. Query i of a sequence of length n with q queries is at position n - q + i and sees the
// positions up to its own, at most `window` of them.
struct PagedAttentionArgs {
    const float* query;  // [num_tokens, num_heads, head_dim]; the heads of a token are contiguous
    int64_t query_stride;
    float* output;  // [num_tokens, num_heads, head_dim], contiguous
    int64_t num_heads;
    KvCache cache;
    int64_t block_size;
    const int32_t* block_tables;  // [num_seqs, max_blocks]
    int64_t table_stride;
    const int32_t* query_starts;  // [num_seqs + 1]
    const int32_t* seq_lens;      // [num_seqs], at least 1 each
    int64_t num_seqs;
    float scale;
    int64_t window;      // 0: all
    float soft_cap;      // 0: none
    const float* sinks;  // [num_heads], or null
    // Whether queries and weights may be rounded to what is fastest to multiply with this cache; else they stay fp32.
    bool rounded = false;
};

void paged_attention(const PagedAttentionArgs& args);

}  // namespace octavo
