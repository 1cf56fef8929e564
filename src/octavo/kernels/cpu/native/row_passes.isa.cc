// row_passes.h for one instruction set.

#include "row_passes.h"

#include "kernel.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr float kLowest = -__builtin_inff();
constexpr float kGreatest = 3.40282347e38f;
constexpr int64_t kVectors = kBlock / kWidth;
static_assert(kVectors % 4 == 0);

inline F32 clean(F32 v) { return min(max(v, broadcast(kLowest)), broadcast(kGreatest)); }  // the second operand wins over NaN
inline float clean(float v) { return v > kLowest ? (v < kGreatest ? v : kGreatest) : kLowest; }

// A block's logits, cleaned; the last block of a row is copied to `room` and filled up with -infinity.
struct Block {
    const float* logits;
    int64_t size;
};

inline Block block_at(const LogitRow& row, int64_t block) {
    const int64_t first = block * kBlock;
    const int64_t left = row.vocab_size - first;
    return {row.logits + first, left < kBlock ? left : kBlock};
}

inline const float* whole(const Block& block, float* room) {
    if (block.size == kBlock) return block.logits;
    for (int64_t i = 0; i < kBlock; ++i) room[i] = i < block.size ? block.logits[i] : kLowest;
    return room;
}

inline float greatest_of(const float* x) {
    F32 a = clean(load(x)), b = clean(load(x + kWidth)), c = clean(load(x + 2 * kWidth)), d = clean(load(x + 3 * kWidth));
    for (int64_t i = 4; i < kVectors; i += 4) {
        a = max(clean(load(x + i * kWidth)), a);
        b = max(clean(load(x + (i + 1) * kWidth)), b);
        c = max(clean(load(x + (i + 2) * kWidth)), c);
        d = max(clean(load(x + (i + 3) * kWidth)), d);
    }
    return max_lane(max(max(a, b), max(c, d)));
}

inline float sum_of_weights(const float* x, float greatest, float scale) {
    if (greatest == kLowest) return 0.0f;
    const F32 top = broadcast(greatest), factor = broadcast(scale);
    F32 a = zero(), b = zero();
    for (int64_t i = 0; i < kVectors; i += 2) {
        a = a + exp((clean(load(x + i * kWidth)) - top) * factor);
        b = b + exp((clean(load(x + (i + 1) * kWidth)) - top) * factor);
    }
    return sum(a + b);
}

}  // namespace

void reduce_blocks(const LogitRow& row, int64_t first, int64_t end, float scale, float* maxima, float* sums) {
    float room[kBlock];
    for (int64_t block = first; block < end; ++block) {
        const float* x = whole(block_at(row, block), room);
        maxima[block] = greatest_of(x);
        if (sums) sums[block] = sum_of_weights(x, maxima[block], scale);
    }
}

int64_t collect(const LogitRow& row, const float* maxima, float threshold, float* values, int32_t* token_ids) {
    int64_t count = 0;
    const int64_t num_blocks = row.num_blocks();
    for (int64_t i = 0; i < num_blocks; ++i) {
        if (!(maxima[i] >= threshold)) continue;
        const Block block = block_at(row, i);
        for (int64_t j = 0; j < block.size; ++j) {  // writes always and moves on where it counts: no branch to mispredict
            const float value = clean(block.logits[j]);
            values[count] = value;
            token_ids[count] = static_cast<int32_t>(i * kBlock + j);
            count += value >= threshold;
        }
    }
    return count;
}

void weigh(const float* values, int64_t count, float greatest, float scale, float* weights) {
    const F32 top = broadcast(greatest), factor = broadcast(scale);
    for (int64_t i = 0; i < count; i += kWidth) {
        const int n = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
        store_first(weights + i, exp((load_first(values + i, n) - top) * factor), n);
    }
}

int64_t count_above(const LogitRow& row, const float* maxima, float value) {
    int64_t count = 0;
    const int64_t num_blocks = row.num_blocks();
    for (int64_t i = 0; i < num_blocks; ++i) {
        if (!(maxima[i] > value)) continue;
        const Block block = block_at(row, i);
        for (int64_t j = 0; j < block.size; ++j) count += clean(block.logits[j]) > value;
    }
    return count;
}

}  // namespace octavo::OCTAVO_ISA
