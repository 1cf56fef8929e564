// Attention of a sequence with one query. Include in .isa.cc files only.
//
// Products (attention_fp32.h and others) says how numbers of the cache are multiplied.
//
// The cost is reading the cache, so each key and value is read once, for all heads of its group, with dot products for
// the scores. Each tile of the context is an item of its own, and the last one to be done merges them in order. So the
// result does not depend on the number of threads.
#pragma once

#include <utility>

#include "attention_units.h"

namespace octavo::OCTAVO_ISA {

// Query heads that take a key at a time; the heads of larger groups come in several lots.
constexpr int64_t kMaxLot = 8;

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

// Scratch space of a thread, with something for each head.
template <typename Products>
struct DecodeArea {
    using Unit = typename Products::Unit;
    Unit* query;
    float* scores;    // [kTileTokens], and then the weights
    float* partials;  // of a sequence with one tile
    int64_t query_stride;

    static int64_t query_units(const PagedAttentionArgs& args) { return padded_head_dim(args) / Products::kNumbers; }
    static int64_t floats(const PagedAttentionArgs& args) {
        return args.num_heads * (query_units(args) + kTileTokens + partial_floats(args));
    }
    DecodeArea(const PagedAttentionArgs& args, float* area) : query_stride(query_units(args)) {
        static_assert(sizeof(Unit) == sizeof(float));
        query = reinterpret_cast<Unit*>(area);
        scores = area + args.num_heads * query_stride;
        partials = scores + args.num_heads * kTileTokens;
    }
    Unit* query_of(int64_t head) const { return query + head * query_stride; }
    float* scores_of(int64_t head) const { return scores + head * kTileTokens; }
};

// The micro kernels of Products for each number of heads in a lot.
template <typename Products>
struct DecodeKernels {
    using Item = typename Products::Item;
    using Unit = typename Products::Unit;
    using Score = void (*)(const Unit*, int64_t, const Item*, const int64_t*, int64_t, float*);
    using Add = void (*)(const float*, int64_t, int64_t, const Item*, const int64_t*, int64_t, float*, int64_t);

    static Score score_for(int64_t lot) { return score_for(lot, std::make_integer_sequence<int, kMaxLot>()); }
    static Add add_for(int64_t lot) { return add_for(lot, std::make_integer_sequence<int, kMaxLot>()); }

  private:
    template <int... kHeadsLessOne>
    static Score score_for(int64_t lot, std::integer_sequence<int, kHeadsLessOne...>) {
        static constexpr Score table[] = {score_turn<Products, kHeadsLessOne + 1>...};
        return table[lot - 1];
    }
    template <int... kHeadsLessOne>
    static Add add_for(int64_t lot, std::integer_sequence<int, kHeadsLessOne...>) {
        static constexpr Add table[] = {Products::template add_turn<kHeadsLessOne + 1>...};
        return table[lot - 1];
    }
};

inline int64_t lots_of_head(const PagedAttentionArgs& args) {
    return (args.num_heads / args.cache.num_kv_heads + kMaxLot - 1) / kMaxLot;
}

// Call body(key head, first query head, number of query heads) for each lot of an item.
template <typename Body>
inline void for_each_lot(const PagedAttentionArgs& args, const DecodeItem& item, Body&& body) {
    const int64_t group = args.num_heads / args.cache.num_kv_heads;
    for (int64_t kv_head = item.first_kv_head; kv_head < item.end_kv_head; ++kv_head)
        for (int64_t first = 0; first < group; first += kMaxLot)
            body(kv_head, kv_head * group + first, smaller(kMaxLot, group - first));
}

// Call body(key head, query head) for each head of an item.
template <typename Body>
inline void for_each_head(const PagedAttentionArgs& args, const DecodeItem& item, Body&& body) {
    const int64_t group = args.num_heads / args.cache.num_kv_heads;
    for (int64_t head = item.first_kv_head * group; head < item.end_kv_head * group; ++head) body(head / group, head);
}

// Tokens of an item's tile that the sequence's query sees, counted from the tile's first, and where they are in the cache.
// Turns reach over both ends: they see the first and the last token again.
struct TileTokens {
    int64_t low, high;
    int64_t slots[kTileTokens];
    int64_t offsets[kTileTokens + kTurnTokens];

    TileTokens() = default;
    TileTokens(const PagedAttentionArgs& args, const DecodeItem& item) {
        const Sequence sequence(args, item.sequence);
        const int64_t begin = first_visible(args, sequence.length - 1);
        const int64_t first = (begin / kTileTokens + item.tile) * kTileTokens;
        low = larger(begin - first, 0);
        high = smaller(sequence.length - first, kTileTokens);
        find_slots(args, sequence, first + low, first + high, slots + low);
        for (int64_t t = low; t < high; ++t) offsets[t] = slots[t] * args.cache.slot_stride();
        for (int64_t t = first_turn(); t < low; ++t) offsets[t] = offsets[low];
        for (int64_t t = high; t < round_up(high, kTurnTokens); ++t) offsets[t] = offsets[high - 1];
    }

    int64_t first_turn() const { return low / kTurnTokens * kTurnTokens; }
    int64_t count() const { return high - low; }

    // What the cache has for each token and head, for one head side by side.
    void gather(const PagedAttentionArgs& args, const float* scales, int64_t kv_head, float* gathered) const {
        const int64_t num_heads = args.cache.num_kv_heads, begin = low, end = high;
        scales += kv_head;
        for (int64_t t = begin; t < end; ++t) gathered[t] = scales[slots[t] * num_heads];
    }
};

// Brings in rows of the cache some time before they are read: an item's keys and its values, in this order, and then the
// first keys of the item that the thread will probably compute next. A row is a token's heads.
template <typename Products>
class ReadAhead {
    using Item = typename Products::Item;
    static constexpr int64_t kBytes = 24 * 1024;

  public:
    // `next` may be null. `is_begun`: the first rows have been brought in as those of the item before.
    ReadAhead(const PagedAttentionArgs& args, const DecodeItem& item, const TileTokens& tokens, const DecodeItem* next,
              const TileTokens& next_tokens, bool is_begun) {
        const int64_t num_heads = item.end_kv_head - item.first_kv_head;
        row_bytes_ = num_heads * args.cache.head_dim * static_cast<int64_t>(sizeof(Item));
        // All tokens of a turn are read for the first head already.
        num_ahead_ = larger(kBytes / row_bytes_, kTurnTokens + kTurnTokens / 2);
        const KvCache& cache = args.cache;
        num_kv_heads_ = cache.num_kv_heads;
        add(cache.keys, cache.key_scales, cache, item, tokens, tokens.count());
        add(cache.values, cache.value_scales, cache, item, tokens, tokens.count());
        if (next) add(cache.keys, cache.key_scales, cache, *next, next_tokens, num_ahead_);
        if (is_begun) num_fetched_ = smaller(num_ahead_, tokens.count());
    }

    // The row that is read now: 0 is the first one of the keys.
    void reach(int64_t row) {
        for (; num_fetched_ < smaller(row + num_ahead_, end_); ++num_fetched_) {
            while (num_fetched_ >= parts_[part_].end) ++part_;
            const Part& part = parts_[part_];
            const int64_t token = num_fetched_ - part.begin;
            if constexpr (Products::kScaled) prefetch_l2(part.scales + part.slots[token] * num_kv_heads_);
            const auto* bytes = reinterpret_cast<const char*>(part.numbers + part.offsets[token]);
            for (int64_t byte = 0; byte < row_bytes_; byte += kCacheLine) prefetch_l2(bytes + byte);
        }
    }

  private:
    struct Part {
        int64_t begin, end;
        const Item* numbers;
        const float* scales;
        const int64_t *offsets, *slots;
    };

    void add(const void* numbers, const float* scales, const KvCache& cache, const DecodeItem& item,
             const TileTokens& tokens, int64_t num_rows) {
        num_rows = smaller(num_rows, tokens.count());
        parts_[num_parts_++] = {end_,
                                end_ + num_rows,
                                static_cast<const Item*>(numbers) + item.first_kv_head * cache.head_dim,
                                Products::kScaled ? scales + item.first_kv_head : nullptr,
                                tokens.offsets + tokens.low,
                                tokens.slots + tokens.low};
        end_ += num_rows;
    }

    Part parts_[3];
    int64_t num_parts_ = 0, part_ = 0, end_ = 0, num_fetched_ = 0, row_bytes_, num_ahead_, num_kv_heads_;
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

// Compute one item; `scratch_space` has DecodeArea's floats.
template <typename Products>
void decode(const PagedAttentionArgs& args, const DecodeItem& item, const TileTokens& tokens,
            ReadAhead<Products>& ahead, float* scratch_space) {
    using Item = typename Products::Item;
    using Kernels = DecodeKernels<Products>;
    const Sequence sequence(args, item.sequence);
    const DecodeArea<Products> area(args, scratch_space);
    const int64_t head_dim = args.cache.head_dim;
    const auto* keys = static_cast<const Item*>(args.cache.keys);
    const auto* values = static_cast<const Item*>(args.cache.values);
    float* partials = item.partials ? item.partials : area.partials;
    const auto sums_of = [&](int64_t head) { return partial_at(args, partials, item.tile, head).values; };

    for_each_head(args, item, [&](int64_t, int64_t head) {
        const float* from = args.query + sequence.first_token * args.query_stride + head * head_dim;
        Products::pack_query(from, args.scale, head_dim, area.query_of(head));
        for (int64_t dim = 0; dim < head_dim; dim += kWidth) store(sums_of(head) + dim, zero());
    });
    // Call body for each lot of each turn, and read ahead meanwhile.
    const int64_t num_lots = (item.end_kv_head - item.first_kv_head) * lots_of_head(args);
    const auto for_each_turn = [&](int64_t first_row, auto&& body) {
        for (int64_t turn = tokens.first_turn(); turn < tokens.high; turn += kTurnTokens) {
            int64_t step = 0;
            for_each_lot(args, item, [&](int64_t kv_head, int64_t head, int64_t lot) {
                ahead.reach(first_row + turn - tokens.low + ++step * kTurnTokens / num_lots);
                body(turn, kv_head, head, lot);
            });
        }
    };
    for_each_turn(0, [&](int64_t turn, int64_t kv_head, int64_t head, int64_t lot) {
        Kernels::score_for(lot)(area.query_of(head), area.query_stride, keys + kv_head * head_dim, tokens.offsets + turn,
                                head_dim, area.scores_of(head) + turn);
    });
    for_each_lot(args, item, [&](int64_t kv_head, int64_t first_head, int64_t lot) {
        float scales[2][kTileTokens] = {};
        if constexpr (Products::kScaled) {
            tokens.gather(args, args.cache.key_scales, kv_head, scales[0]);
            tokens.gather(args, args.cache.value_scales, kv_head, scales[1]);
        }
        for (int64_t head = first_head; head < first_head + lot; ++head) {
            softmax_weights(args, area.scores_of(head), tokens, Products::kScaled ? scales[0] : nullptr,
                            Products::kScaled ? scales[1] : nullptr, partial_at(args, partials, item.tile, head));
            Products::pack_weights(area.scores_of(head), tokens.low, tokens.high);
        }
    });
    for_each_turn(tokens.count(), [&](int64_t turn, int64_t kv_head, int64_t head, int64_t lot) {
        Kernels::add_for(lot)(Products::weights_of_turn(area.scores_of(head), turn), larger(turn, tokens.low) - turn,
                              smaller(turn + kTurnTokens, tokens.high) - turn, values + kv_head * head_dim,
                              tokens.offsets + turn, head_dim, sums_of(head), partial_floats(args));
    });
    for_each_head(args, item, [&](int64_t, int64_t head) { Products::order_sums(sums_of(head), head_dim); });

    const int64_t tiles = num_tiles(args, sequence);
    const bool is_last = tiles == 1 || __atomic_add_fetch(item.num_done, 1, __ATOMIC_ACQ_REL) == tiles;
    if (!is_last) return;
    for_each_head(args, item,
                  [&](int64_t, int64_t head) { merge_tiles(args, sequence, partials, tiles, head); });
}

// One thread's way over the items.
template <typename Products>
class DecodeWalk {
  public:
    // Compute one item. The next one is computed soon, probably by this thread, and may be null.
    void visit(const PagedAttentionArgs& args, const DecodeItem& item, const DecodeItem* next, float* scratch_space) {
        const bool is_expected = expected_ == &item;
        if (!is_expected) tokens_[current_] = TileTokens(args, item);
        if (next) tokens_[1 - current_] = TileTokens(args, *next);
        ReadAhead<Products> ahead(args, item, tokens_[current_], next, tokens_[1 - current_], is_expected);
        decode<Products>(args, item, tokens_[current_], ahead, scratch_space);
        expected_ = next;
        current_ = 1 - current_;
    }

  private:
    const DecodeItem* expected_ = nullptr;  // whose tokens are the current ones, and whose first rows have been read ahead
    int current_ = 0;
    TileTokens tokens_[2];
};

}  // namespace octavo::OCTAVO_ISA
