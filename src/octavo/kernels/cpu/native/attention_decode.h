// Attention of a sequence with one query. Include in .isa.cc files only.
//
// The cost is reading the cache, so each key and value is read once, for all heads of its group, with dot products for
// the scores. Each tile of the context is an item of its own, and the last one to be done merges them in order. So the
// result does not depend on the number of threads.
#pragma once

#include <utility>

#include "attention_order.h"

namespace octavo::OCTAVO_ISA {

// Tokens after which the next key head has its turn. The heads of a token are neighbours in memory, and reading is fastest
// where whole tokens follow each other.
constexpr int kTurnTokens = 8;
// Query heads that take a key at a time; the heads of larger groups come in several lots.
constexpr int64_t kMaxLot = 8;
// Sums that stay in registers.
constexpr int kSums = kWidth == 16 ? 16 : 8;
constexpr int kCacheLine = 64;

// A tile of a sequence, counted from the first one that is seen, for some key heads.
struct DecodeItem {
    int64_t sequence, tile, first_kv_head, end_kv_head;
    float* partials;  // of the sequence's first tile, or null if it has only one
    int32_t* num_done;
};

// One head's share of a tile: its weighted sum of values, the largest score, and the sum of the weights.
struct Partial {
    float* values;
    float* max_score;
    float* weight_sum;
};

inline int64_t padded_head_dim(const PagedAttentionArgs& args) { return round_up(args.cache.head_dim, kWidth); }
inline int64_t partial_floats(const PagedAttentionArgs& args) { return padded_head_dim(args) + kWidth; }
inline Partial partial_at(const PagedAttentionArgs& args, float* partials, int64_t tile, int64_t head) {
    float* values = partials + (tile * args.num_heads + head) * partial_floats(args);
    return {values, values + padded_head_dim(args), values + padded_head_dim(args) + 1};
}

inline int64_t num_tiles(const PagedAttentionArgs& args, const Sequence& sequence) {
    return (sequence.length - 1) / kTileTokens - first_visible(args, sequence.length - 1) / kTileTokens + 1;
}

// Floats of scratch space that a thread needs.
inline int64_t decode_floats(const PagedAttentionArgs& args) {
    return args.num_heads * (padded_head_dim(args) + kTileTokens + partial_floats(args));
}

// The largest power of two that is no larger than n and `most`.
constexpr int power_of_two_below(int n, int most) {
    int power = 1;
    while (2 * power <= n && 2 * power <= most) power *= 2;
    return power;
}

// Brings in what the next turn reads, whole tokens in the order in which they are in memory: one step a lot of heads.
template <typename Item>
class TurnFetch {
  public:
    TurnFetch(const Item* rows, const int64_t* offsets, int64_t row_items, int64_t num_steps)
        : rows_(rows), offsets_(offsets), row_bytes_(row_items * sizeof(Item)), num_steps_(num_steps) {}

    void step() {
        ++step_;
        for (; token_ * num_steps_ < step_ * kTurnTokens; ++token_) {
            const char* row = reinterpret_cast<const char*>(rows_ + offsets_[token_]);
            for (int64_t byte = 0; byte < row_bytes_; byte += kCacheLine) prefetch_l2(row + byte);
        }
    }

  private:
    const Item* rows_;
    const int64_t* offsets_;
    const int64_t row_bytes_, num_steps_;
    int64_t step_ = 0, token_ = 0;
};

// Scores of kTurnTokens tokens for kHeads heads: dot products of rows of `query` with rows of `keys`.
template <typename Kv, int kHeads>
inline void score_turn(const float* query, int64_t query_stride, const typename Kv::Item* keys, const int64_t* offsets,
                       int64_t head_dim, float* scores) {
    constexpr int kTokens = power_of_two_below(kSums / kHeads, kTurnTokens);
    constexpr int kVectors = (kHeads * kTokens + kWidth - 1) / kWidth * kWidth;
    const int64_t whole = head_dim / kWidth * kWidth;
    const int rest = static_cast<int>(head_dim - whole);
    for (int64_t token = 0; token < kTurnTokens; token += kTokens) {
        const typename Kv::Item* rows[kTokens];
        for (int t = 0; t < kTokens; ++t) rows[t] = keys + offsets[token + t];
        F32 sums[kVectors];
#pragma GCC unroll 16
        for (int i = 0; i < kVectors; ++i) sums[i] = zero();
        const auto add = [&](int64_t dim, auto&& load_keys) __attribute__((always_inline)) {
            F32 key[kTokens];
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) key[t] = load_keys(rows[t] + dim);
#pragma GCC unroll 8
            for (int h = 0; h < kHeads; ++h) {
                const F32 part = load(query + h * query_stride + dim);
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t) sums[h * kTokens + t] = fma(part, key[t], sums[h * kTokens + t]);
            }
        };
        for (int64_t dim = 0; dim < whole; dim += kWidth)
            add(dim, [](const typename Kv::Item* p) { return Kv::load(p); });
        if (rest > 0) add(whole, [rest](const typename Kv::Item* p) { return Kv::load_first(p, rest); });
        float dots[kVectors];
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; i += kWidth) store(dots + i, sum_each(sums + i));
        for (int h = 0; h < kHeads; ++h)
            for (int t = 0; t < kTokens; ++t) scores[h * kTileTokens + token + t] = dots[h * kTokens + t];
    }
}

// sums[head] += weights[head][token] * values[token] for kColumns vectors of each value.
template <typename Kv, int kHeads, int kColumns>
inline void add_columns(const float* weights, int64_t num_tokens, const typename Kv::Item* values,
                        const int64_t* offsets, int rest, float* sums, int64_t sums_stride) {
    F32 total[kHeads][kColumns];
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c) total[h][c] = load(sums + h * sums_stride + c * kWidth);
    for (int64_t t = 0; t < num_tokens; ++t) {
        const typename Kv::Item* row = values + offsets[t];
        F32 value[kColumns];
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c)
            value[c] = rest > 0 ? Kv::load_first(row + c * kWidth, rest) : Kv::load(row + c * kWidth);
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
            const F32 weight = broadcast(weights[h * kTileTokens + t]);
#pragma GCC unroll 16
            for (int c = 0; c < kColumns; ++c) total[h][c] = fma(weight, value[c], total[h][c]);
        }
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c) store(sums + h * sums_stride + c * kWidth, total[h][c]);
}

// The same for all columns from `dim` on, as many at a time as fit in registers.
template <typename Kv, int kHeads, int kColumns>
inline void add_values_from(int64_t dim, const float* weights, int64_t num_tokens, const typename Kv::Item* values,
                            const int64_t* offsets, int64_t head_dim, float* sums, int64_t sums_stride) {
    for (; dim + kColumns * kWidth <= head_dim; dim += kColumns * kWidth)
        add_columns<Kv, kHeads, kColumns>(weights, num_tokens, values + dim, offsets, 0, sums + dim, sums_stride);
    if constexpr (kColumns > 1) {
        add_values_from<Kv, kHeads, kColumns / 2>(dim, weights, num_tokens, values, offsets, head_dim, sums,
                                                  sums_stride);
    } else if (dim < head_dim) {
        add_columns<Kv, kHeads, 1>(weights, num_tokens, values + dim, offsets, static_cast<int>(head_dim - dim),
                                   sums + dim, sums_stride);
    }
}

template <typename Kv, int kHeads>
inline void add_turn(const float* weights, int64_t num_tokens, const typename Kv::Item* values, const int64_t* offsets,
                     int64_t head_dim, float* sums, int64_t sums_stride) {
    add_values_from<Kv, kHeads, power_of_two_below(kSums / kHeads, kSums)>(0, weights, num_tokens, values, offsets, head_dim,
                                                                    sums, sums_stride);
}

template <typename Kv>
struct DecodeKernel {
    using Item = typename Kv::Item;
    using Score = void (*)(const float*, int64_t, const Item*, const int64_t*, int64_t, float*);
    using Add = void (*)(const float*, int64_t, const Item*, const int64_t*, int64_t, float*, int64_t);

    template <int... kHeadsLessOne>
    static Score score_for(int64_t lot, std::integer_sequence<int, kHeadsLessOne...>) {
        static constexpr Score table[] = {score_turn<Kv, kHeadsLessOne + 1>...};
        return table[lot - 1];
    }
    template <int... kHeadsLessOne>
    static Add add_for(int64_t lot, std::integer_sequence<int, kHeadsLessOne...>) {
        static constexpr Add table[] = {add_turn<Kv, kHeadsLessOne + 1>...};
        return table[lot - 1];
    }

    static int64_t lots_of_head(const PagedAttentionArgs& args) {
        return (args.num_heads / args.cache.num_kv_heads + kMaxLot - 1) / kMaxLot;
    }

    // Call body(key head, first query head, number of query heads) for each lot of an item.
    template <typename Body>
    static void for_each_lot(const PagedAttentionArgs& args, const DecodeItem& item, Body&& body) {
        const int64_t group = args.num_heads / args.cache.num_kv_heads;
        for (int64_t kv_head = item.first_kv_head; kv_head < item.end_kv_head; ++kv_head)
            for (int64_t first = 0; first < group; first += kMaxLot)
                body(kv_head, kv_head * group + first, smaller(kMaxLot, group - first));
    }
};

// Tokens of a tile that a sequence's query sees, counted from the tile's first, and where they are in the cache. Turns reach
// over both ends, and prefetching a turn further: they see the first and the last token again.
struct TileTokens {
    int64_t low, high;
    int64_t slots[kTileTokens];
    int64_t offsets[kTileTokens + 2 * kTurnTokens];

    TileTokens(const PagedAttentionArgs& args, const Sequence& sequence, int64_t tile_of_item) {
        const int64_t begin = first_visible(args, sequence.length - 1);
        const int64_t first = (begin / kTileTokens + tile_of_item) * kTileTokens;
        low = larger(begin - first, 0);
        high = smaller(sequence.length - first, kTileTokens);
        find_slots(args, sequence, first + low, first + high, slots + low);
        for (int64_t t = low; t < high; ++t) offsets[t] = slots[t] * args.cache.slot_stride();
        for (int64_t t = first_turn(); t < low; ++t) offsets[t] = offsets[low];
        for (int64_t t = high; t < round_up(high, kTurnTokens) + kTurnTokens; ++t) offsets[t] = offsets[high - 1];
    }

    int64_t first_turn() const { return low / kTurnTokens * kTurnTokens; }

    // What the cache has for each token and head, for one head side by side.
    void gather(const PagedAttentionArgs& args, const float* scales, int64_t kv_head, float* gathered) const {
        for (int64_t t = low; t < high; ++t) gathered[t] = scales[slots[t] * args.cache.num_kv_heads + kv_head];
    }
};

// Turn the scores of a tile into weights exp(score - max), times the scales of the values if there are any. Lanes without a
// token read scales too.
inline void softmax_weights(const PagedAttentionArgs& args, float* scores, const TileTokens& tokens,
                            const float* key_scales, const float* value_scales, const Partial& partial) {
    const int64_t begin = tokens.low / kWidth * kWidth, end = round_up(tokens.high, kWidth);
    if (key_scales)
        for (int64_t i = begin; i < end; i += kWidth) store(scores + i, load(scores + i) * load(key_scales + i));
    if (args.soft_cap != 0)
        for (int64_t i = begin; i < end; i += kWidth)
            store(scores + i, soft_cap(load(scores + i), broadcast(args.soft_cap)));
    for (int64_t i = begin; i < tokens.low; ++i) scores[i] = kMinusInfinity;
    for (int64_t i = tokens.high; i < end; ++i) scores[i] = kMinusInfinity;
    F32 largest = broadcast(kLowest);
    for (int64_t i = begin; i < end; i += kWidth) largest = max(load(scores + i), largest);
    const float max_score = max_lane(largest);
    F32 total = zero();
    for (int64_t i = begin; i < end; i += kWidth) {
        const F32 weight = exp(load(scores + i) - broadcast(max_score));
        store(scores + i, value_scales ? weight * load(value_scales + i) : weight);
        total = total + weight;
    }
    *partial.max_score = max_score;
    *partial.weight_sum = sum_lanes(total);
}

// Merge the tiles of one head, in the first one's place, and write the result.
inline void merge_tiles(const PagedAttentionArgs& args, const Sequence& sequence, float* partials, int64_t tiles,
                        int64_t head) {
    F32 max_score = broadcast(kLowest), weight_sum = zero();
    float* sums = partial_at(args, partials, 0, head).values;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const Partial partial = partial_at(args, partials, tile, head);
        const Merge merge(max_score, broadcast(*partial.max_score));
        max_score = merge.max_score;
        weight_sum = merged(merge.before, weight_sum, merge.tile, broadcast(*partial.weight_sum));
        for (int64_t dim = 0; dim < padded_head_dim(args); dim += kWidth) {
            const F32 before = tile == 0 ? zero() : load(sums + dim);
            store(sums + dim, merged(merge.before, before, merge.tile, load(partial.values + dim)));
        }
    }
    write_head(args, sequence.first_token, head, sums, max_score, weight_sum);
}

// Compute one item; `area` has decode_floats.
template <typename Kv>
void decode(const PagedAttentionArgs& args, const DecodeItem& item, float* area) {
    using Kernel = DecodeKernel<Kv>;
    constexpr std::make_integer_sequence<int, kMaxLot> lots;
    const Sequence sequence(args, item.sequence);
    const int64_t head_dim = args.cache.head_dim, query_stride = padded_head_dim(args);
    const auto* keys = static_cast<const typename Kv::Item*>(args.cache.keys);
    const auto* values = static_cast<const typename Kv::Item*>(args.cache.values);
    const TileTokens tokens(args, sequence, item.tile);

    float* query = area;
    float* scores = query + args.num_heads * query_stride;
    float* partials = item.partials ? item.partials : scores + args.num_heads * kTileTokens;
    Kernel::for_each_lot(args, item, [&](int64_t, int64_t first_head, int64_t lot) {
        for (int64_t head = first_head; head < first_head + lot; ++head) {
            const float* from = args.query + sequence.first_token * args.query_stride + head * head_dim;
            float* sums = partial_at(args, partials, item.tile, head).values;
            for (int64_t dim = 0; dim < head_dim; dim += kWidth) {
                const int n = static_cast<int>(smaller(kWidth, head_dim - dim));
                store(query + head * query_stride + dim, load_first(from + dim, n) * broadcast(args.scale));
                store(sums + dim, zero());
            }
        }
    });
    const int64_t first_item = item.first_kv_head * head_dim;
    const int64_t row_items = (item.end_kv_head - item.first_kv_head) * head_dim;
    const int64_t num_lots = (item.end_kv_head - item.first_kv_head) * Kernel::lots_of_head(args);
    for (int64_t t = tokens.first_turn(); t < tokens.high; t += kTurnTokens) {
        const bool is_last = t + kTurnTokens >= tokens.high;
        TurnFetch fetch(is_last ? values + first_item : keys + first_item,
                        tokens.offsets + (is_last ? tokens.first_turn() : t + kTurnTokens), row_items, num_lots);
        Kernel::for_each_lot(args, item, [&](int64_t kv_head, int64_t head, int64_t lot) {
            fetch.step();
            Kernel::score_for(lot, lots)(query + head * query_stride, query_stride, keys + kv_head * head_dim,
                                         tokens.offsets + t, head_dim, scores + head * kTileTokens + t);
        });
    }
    Kernel::for_each_lot(args, item, [&](int64_t kv_head, int64_t first_head, int64_t lot) {
        float scales[2][kTileTokens] = {};
        if constexpr (Kv::kScaled) {
            tokens.gather(args, args.cache.key_scales, kv_head, scales[0]);
            tokens.gather(args, args.cache.value_scales, kv_head, scales[1]);
        }
        for (int64_t head = first_head; head < first_head + lot; ++head)
            softmax_weights(args, scores + head * kTileTokens, tokens, Kv::kScaled ? scales[0] : nullptr,
                            Kv::kScaled ? scales[1] : nullptr, partial_at(args, partials, item.tile, head));
    });
    for (int64_t turn = tokens.first_turn(); turn < tokens.high; turn += kTurnTokens) {
        const int64_t t = larger(turn, tokens.low), num_tokens = smaller(turn + kTurnTokens, tokens.high) - t;
        TurnFetch fetch(values + first_item, tokens.offsets + turn + kTurnTokens, row_items, num_lots);
        Kernel::for_each_lot(args, item, [&](int64_t kv_head, int64_t head, int64_t lot) {
            fetch.step();
            Kernel::add_for(lot, lots)(scores + head * kTileTokens + t, num_tokens, values + kv_head * head_dim,
                                       tokens.offsets + t, head_dim,
                                       partial_at(args, partials, item.tile, head).values, partial_floats(args));
        });
    }

    const int64_t tiles = num_tiles(args, sequence);
    const bool is_last = tiles == 1 || __atomic_add_fetch(item.num_done, 1, __ATOMIC_ACQ_REL) == tiles;
    if (!is_last) return;
    Kernel::for_each_lot(args, item, [&](int64_t, int64_t first_head, int64_t lot) {
        for (int64_t head = first_head; head < first_head + lot; ++head)
            merge_tiles(args, sequence, partials, tiles, head);
    });
}

}  // namespace octavo::OCTAVO_ISA
