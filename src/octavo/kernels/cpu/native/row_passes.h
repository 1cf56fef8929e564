// Vector passes over one row of logits, which sampling.cc puts together.
//
// A row is cut into blocks of kBlock logits, whatever the number of threads, and each block is summed in one fixed order: so a
// row's sums are the same bits always. A logit that is NaN counts as -infinity, and +infinity as the greatest float.
#pragma once

#include <cstdint>

namespace octavo {

constexpr int64_t kBlock = 256;

struct LogitRow {
    const float* logits;  // [vocab_size]
    int64_t vocab_size;

    int64_t num_blocks() const { return (vocab_size + kBlock - 1) / kBlock; }
};

// The greatest logit of each block in [first, end), and where `sums` is not null the sum of e^((logit - greatest) * scale).
void reduce_blocks(const LogitRow& row, int64_t first, int64_t end, float scale, float* maxima, float* sums);

// Write the logits that are at least `threshold`, and their token ids, in order; returns how many. `maxima` are the
// row's. There must be room for kBlock more than there are.
int64_t collect(const LogitRow& row, const float* maxima, float threshold, float* values, int32_t* token_ids);

// weights[i] = e^((values[i] - greatest) * scale)
void weigh(const float* values, int64_t count, float greatest, float scale, float* weights);

// How many logits of the row are above `value`.
int64_t count_above(const LogitRow& row, const float* maxima, float value);

}  // namespace octavo
