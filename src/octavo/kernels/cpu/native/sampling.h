// From logits to tokens without sorting a vocabulary: filters are thresholds on the logits, and a token is where the
// cumulative distribution passes a uniform number. Meaning: kernels/reference/sample_tokens.py.
#pragma once

#include <cstdint>

namespace octavo {

struct SampleArgs {
    const float* logits;  // [num_rows, vocab_size]
    int64_t stride;
    int64_t num_rows;
    int64_t vocab_size;
    const float* temperature;  // [num_rows], 0 takes the most likely token
    const int64_t* top_k;      // [num_rows], 0 for all
    const float* top_p;        // [num_rows]
    const float* min_p;        // [num_rows]
    const int64_t* seeds;      // [num_rows]
    const int64_t* positions;  // [num_rows]
    int64_t* token_ids;        // [num_rows]
};

void sample_tokens(const SampleArgs& args);

struct TopLogprobsArgs {
    const float* logits;  // [num_rows, vocab_size]
    int64_t stride;
    int64_t num_rows;
    int64_t vocab_size;
    const int64_t* token_ids;  // [num_rows]
    int64_t num_top;           // at most vocab_size
    float* logprobs;           // [num_rows, 1 + num_top]: the given token's, then the greatest
    int64_t* ids;              // [num_rows, 1 + num_top]
    int64_t* ranks;            // [num_rows]: 1 + logits above the given token's
};

void top_logprobs(const TopLogprobsArgs& args);

struct PenaltyArgs {
    float* logits;  // [., vocab_size]
    int64_t stride;
    int64_t vocab_size;
    int64_t num_rows;
    const int64_t* rows;       // [num_rows], of the logits
    const int32_t* token_ids;  // [num_rows, .]: prompt and output
    int64_t token_stride;
    const int64_t* prompt_lens;  // [num_rows]
    const int64_t* lens;         // [num_rows]
    const float* presence;       // [num_rows]
    const float* frequency;
    const float* repetition;
};

void apply_penalties(const PenaltyArgs& args);

struct BitmaskArgs {
    float* logits;  // [., vocab_size]
    int64_t stride;
    int64_t vocab_size;
    int64_t num_rows;
    const int64_t* rows;      // [num_rows], of the logits
    const uint32_t* bitmask;  // [num_rows, .]: token 32 i + j is bit j of word i
    int64_t mask_stride;
};

void apply_token_bitmask(const BitmaskArgs& args);

}  // namespace octavo
