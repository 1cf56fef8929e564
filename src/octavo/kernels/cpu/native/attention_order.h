// What decoding and prefill compute alike, down to the order of every sum, so that a token's result is the same bits
// whether it is computed alone or in a chunk of its prompt. Include in .isa.cc files only.
//
//   score       of a query and a key: each lane sums the products of the dimensions lane, lane + kWidth, ... in this order; the
//               lanes are added as a binary tree of neighbours (sum_each). Then the key's scale, the cap, and what is not
//               seen becomes -infinity.
//   tile        tokens [i * kTileTokens, (i + 1) * kTileTokens) of a sequence. Its softmax has its own maximum; the weights are
//               summed as the products of a score are; the values are summed in the order of the tokens.
//   sequence    its tiles are merged one after the other.
//
// Whatever is not seen adds exact zeros or nothing.
#pragma once

#include "attention_work.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kTileTokens = 144;
static_assert(kTileTokens % kWidth == 0);

// Below every score that is a number: exp(-infinity - kLowest) is 0, where exp(-infinity + infinity) would be NaN.
constexpr float kLowest = -3.402823466e38f;
constexpr float kMinusInfinity = -__builtin_inff();

// Add kCount vectors as sum_each adds lanes.
template <int kCount>
inline F32 sum_tree(const F32* v) {
    if constexpr (kCount == 1)
        return v[0];
    else
        return sum_tree<kCount / 2>(v) + sum_tree<kCount / 2>(v + kCount / 2);
}

template <int kCount>
inline float sum_tree(const float* v) {
    if constexpr (kCount == 1)
        return v[0];
    else
        return sum_tree<kCount / 2>(v) + sum_tree<kCount / 2>(v + kCount / 2);
}

inline float sum_lanes(F32 v) {
    float lanes[kWidth];
    store(lanes, v);
    return sum_tree<kWidth>(lanes);
}

// cap * tanh(score / cap); `cap` is what broadcast() makes of it.
inline F32 soft_cap(F32 score, F32 cap) {
    const F32 one = broadcast(1.0f), two = broadcast(2.0f);
    return cap * (one - two / (one + exp(two * (score / cap))));
}

// How the sums of the tiles before and those of one more tile go together. Scores are maxima, the factors are of the sums.
struct Merge {
    F32 max_score, before, tile;

    Merge(F32 max_before, F32 max_of_tile)
        : max_score(max(max_of_tile, max_before)), before(exp(max_before - max_score)), tile(exp(max_of_tile - max_score)) {}
};
inline F32 merged(F32 factor_before, F32 before, F32 factor_of_tile, F32 of_tile) {
    return fma(factor_of_tile, of_tile, factor_before * before);
}

// Write one head of one token: its weighted sum of values over the sum of the weights, to which the head's sink is added.
inline void write_head(const PagedAttentionArgs& args, int64_t token, int64_t head, const float* values, F32 max_score,
                       F32 weight_sum) {
    const int64_t head_dim = args.cache.head_dim;
    float* output = args.output + (token * args.num_heads + head) * head_dim;
    F32 factor = broadcast(1.0f);
    if (args.sinks) {
        const Merge merge(max_score, broadcast(args.sinks[head]));
        factor = merge.before;
        weight_sum = merged(merge.before, weight_sum, merge.tile, broadcast(1.0f));
    }
    for (int64_t dim = 0; dim < head_dim; dim += kWidth)
        store_first(output + dim, factor * load(values + dim) / weight_sum,
                    static_cast<int>(smaller(kWidth, head_dim - dim)));
}

}  // namespace octavo::OCTAVO_ISA
