// Attention of encoders: each token attends to all tokens of its sequence. Sequences lie end to end.
#pragma once

#include <cstdint>

namespace octavo {

struct VarlenAttentionArgs {
    const float* qkv;  // [num_tokens, 3, num_heads, head_dim]
    int64_t qkv_stride;  // between tokens, in elements
    const int64_t* starts;  // [num_seqs + 1]: first token of each sequence; the last entry is num_tokens
    int64_t num_seqs;
    int64_t num_heads;
    int64_t head_dim;
    float scale;
    float* output;  // [num_tokens, num_heads, head_dim]
};

void varlen_attention(const VarlenAttentionArgs& args);

}  // namespace octavo
