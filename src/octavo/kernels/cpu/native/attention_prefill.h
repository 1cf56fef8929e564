// Attention of a sequence with several queries. Include in .isa.cc files only.
//
// A lot of queries, all heads of one group, goes over the keys it sees in tiles, with the softmax carried along
// (arXiv:2205.14135). Rows are (query, head of the group) pairs, and scores are kept with rows in the lanes: then keys and
// values are used in the order in which they are stored, and the softmax needs no sums across lanes. What a row must not
// see adds exact zeros.
#pragma once

#include <type_traits>

#include "attention_order.h"

namespace octavo::OCTAVO_ISA {

// Rows of an item.
constexpr int64_t kItemRows = 96;
// A micro kernel has the sums of so many broadcast numbers times two vectors in registers.
constexpr int kMicroRows = kWidth == 16 ? 12 : 6;
constexpr int kMicroKeys = 6;
constexpr int64_t kPanel = 2 * kWidth;
static_assert(kItemRows % kMicroRows == 0 && kItemRows % kPanel == 0 && kTileTokens % kMicroKeys == 0);

// Some queries of one sequence, for one key head.
struct PrefillItem {
    int64_t sequence, first_query, num_queries, kv_head;
};

inline int64_t queries_of_item(const PagedAttentionArgs& args) {
    return larger(1, kItemRows / (args.num_heads / args.cache.num_kv_heads));
}

// Scratch space of a thread.
struct PrefillArea {
    float* query;         // panels of kPanel rows, each [head_dim][rows of the panel], the dimensions in the order of lanes
    float* keys;          // [kTileTokens][head_dim]
    float* values;        // panels of kPanel columns, each [kTileTokens][columns of the panel]
    float* key_scales;    // [kTileTokens]
    float* value_scales;  // [kTileTokens]
    float* scores;        // [kTileTokens][rows]
    float* output;        // [rows][padded head_dim]
    float* max_score;     // [rows], as are the following
    float* weight_sum;
    float* factor_before;  // of the tiles before this one
    float* factor_of_tile;

    static int64_t rows(const PagedAttentionArgs& args) {
        return larger(kItemRows, round_up(args.num_heads / args.cache.num_kv_heads, kItemRows));
    }
    static int64_t floats(const PagedAttentionArgs& args) {
        const int64_t head_dim = round_up(args.cache.head_dim, kWidth);
        return 2 * (rows(args) + kTileTokens) * head_dim + 2 * kTileTokens + (kTileTokens + 4) * rows(args);
    }
    PrefillArea(const PagedAttentionArgs& args, float* area) {
        const int64_t head_dim = round_up(args.cache.head_dim, kWidth), num_rows = rows(args);
        query = area;
        keys = query + num_rows * head_dim;
        values = keys + kTileTokens * head_dim;
        scores = values + kTileTokens * head_dim;
        output = scores + kTileTokens * num_rows;
        key_scales = output + num_rows * head_dim;
        value_scales = key_scales + kTileTokens;
        max_score = value_scales + kTileTokens;
        weight_sum = max_score + num_rows;
        factor_before = weight_sum + num_rows;
        factor_of_tile = factor_before + num_rows;
    }
};

// sums[key][row]: the products of the dimensions of kLanes lanes from kFirst on, added as sum_each does. `query` is moved on
// to the next lane's dimensions.
template <int kFirst, int kLanes, int kVectors, typename Dim>
__attribute__((always_inline)) inline void score_lanes(const float* keys, Dim head_dim, const float*& query,
                                                       F32 (&sums)[kMicroKeys][kVectors]) {
    if constexpr (kLanes == 1) {
#pragma GCC unroll 12
        for (int k = 0; k < kMicroKeys; ++k)
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[k][v] = zero();
        for (int64_t dim = kFirst; dim < head_dim; dim += kWidth) {
            F32 part[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) part[v] = load(query + v * kWidth);
            query += kVectors * kWidth;
#pragma GCC unroll 12
            for (int k = 0; k < kMicroKeys; ++k) {
                const F32 key = broadcast(keys[k * head_dim + dim]);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) sums[k][v] = fma(part[v], key, sums[k][v]);
            }
        }
    } else {
        F32 others[kMicroKeys][kVectors];
        score_lanes<kFirst, kLanes / 2, kVectors>(keys, head_dim, query, sums);
        score_lanes<kFirst + kLanes / 2, kLanes / 2, kVectors>(keys, head_dim, query, others);
#pragma GCC unroll 12
        for (int k = 0; k < kMicroKeys; ++k)
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[k][v] = sums[k][v] + others[k][v];
    }
}

// scores[key][row] = keys[key] . query[row], for kMicroKeys keys and kVectors vectors of rows.
template <int kVectors, typename Dim>
void score_keys(const float* keys, const float* query, Dim head_dim, float* scores, int64_t stride) {
    F32 sums[kMicroKeys][kVectors];
    score_lanes<0, kWidth, kVectors>(keys, head_dim, query, sums);
#pragma GCC unroll 12
    for (int k = 0; k < kMicroKeys; ++k)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(scores + k * stride + v * kWidth, sums[k][v]);
}

// With the offset of each key known to the compiler for the usual sizes, a micro kernel needs few registers for addresses.
template <int kVectors>
void score_block(const float* keys, const float* query, int64_t head_dim, float* scores, int64_t stride) {
    if (head_dim == 64)
        score_keys<kVectors>(keys, query, std::integral_constant<int64_t, 64>(), scores, stride);
    else if (head_dim == 128)
        score_keys<kVectors>(keys, query, std::integral_constant<int64_t, 128>(), scores, stride);
    else
        score_keys<kVectors>(keys, query, head_dim, scores, stride);
}

// Merge the sum of weights[key][row] * values[key] over num_keys into output[row], for kRows rows and kVectors vectors of columns.
template <int kRows, int kVectors>
void add_block(const float* weights, int64_t stride, int64_t num_keys, const float* values, const float* factor_before,
               const float* factor_of_tile, float* output, int64_t output_stride) {
    F32 sums[kRows][kVectors];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[r][v] = zero();
    for (int64_t key = 0; key < num_keys; ++key) {
        F32 value[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) value[v] = load(values + v * kWidth);
        values += kVectors * kWidth;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            const F32 weight = broadcast(weights[r]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(weight, value[v], sums[r][v]);
        }
        weights += stride;
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            float* to = output + r * output_stride + v * kWidth;
            store(to, merged(broadcast(factor_before[r]), load(to), broadcast(factor_of_tile[r]), sums[r][v]));
        }
}

// Some queries on their way over the keys. Keys are counted from the first of their tile where they are called `key`.
template <typename Kv>
class Prefill {
  public:
    Prefill(const PagedAttentionArgs& args, const PrefillItem& item, float* area)
        : args_(args),
          area_(args, area),
          sequence_(args, item.sequence),
          item_(item),
          head_dim_(args.cache.head_dim),
          padded_dim_(round_up(head_dim_, kWidth)),
          group_(args.num_heads / args.cache.num_kv_heads),
          num_rows_(item.num_queries * group_),
          padded_rows_(round_up(num_rows_, kWidth)),
          stride_(PrefillArea::rows(args)),
          first_position_(sequence_.position_of_query(item.first_query)) {}

    void run() {
        pack_query();
        const int64_t begin = first_visible(args_, first_position_), end = first_position_ + item_.num_queries;
        for (int64_t first = begin / kTileTokens * kTileTokens; first < end; first += kTileTokens) {
            first_ = first;
            low_ = larger(begin - first, 0);
            high_ = smaller(end - first, kTileTokens);
            load_tile();
            for (int64_t row = 0; row < padded_rows_; row += kPanel) score_panel(row);
            if (is_finite_)
                for (int64_t row = 0; row < num_rows_; row += kMicroRows) add_rows<kMicroRows>(row);
            else
                for (int64_t row = 0; row < num_rows_; ++row) add_rows<1>(row);
        }
        write_output();
    }

  private:
    struct KeyRange {
        int64_t begin, end;
    };

    // The keys of the tile that any of the rows [row, end) sees.
    KeyRange keys_seen(int64_t row, int64_t end) const {
        if (row >= num_rows_) return {low_, low_};
        const int64_t first_position = first_position_ + row / group_;
        const int64_t last_position = first_position_ + (smaller(end, num_rows_) - 1) / group_;
        const int64_t begin = smaller(high_, larger(low_, first_visible(args_, first_position) - first_));
        return {begin, larger(begin, smaller(high_, last_position + 1 - first_))};
    }

    int64_t rows_of_panel(int64_t row) const { return smaller(kPanel, padded_rows_ - row); }

    void pack_query() {
        const float* query = args_.query + (sequence_.first_token + item_.first_query) * args_.query_stride +
                             item_.kv_head * group_ * head_dim_;
        for (int64_t panel = 0; panel < padded_rows_; panel += kPanel) {
            const int64_t width = rows_of_panel(panel);
            for (int64_t r = 0; r < width; ++r) {
                const int64_t row = panel + r;
                const float* from = query + row / group_ * args_.query_stride + row % group_ * head_dim_;
                float* to = area_.query + panel * head_dim_ + r;
                for (int64_t lane = 0; lane < kWidth; ++lane)
                    for (int64_t dim = lane; dim < head_dim_; dim += kWidth, to += width)
                        *to = row < num_rows_ ? from[dim] * args_.scale : 0;
            }
        }
        for (int64_t i = 0; i < round_up(num_rows_, kMicroRows) * padded_dim_; i += kWidth)
            store(area_.output + i, zero());
        for (int64_t row = 0; row < stride_; row += kWidth) {
            store(area_.max_score + row, broadcast(kLowest));
            store(area_.weight_sum + row, zero());
        }
    }

    // Copy the keys and values [low, high) of the tile, widened; keys up to the end of a micro kernel's are zero.
    void load_tile() {
        int64_t slots[kTileTokens];
        find_slots(args_, sequence_, first_ + low_, first_ + high_, slots + low_);
        const auto* keys = static_cast<const typename Kv::Item*>(args_.cache.keys) + item_.kv_head * head_dim_;
        const auto* values = static_cast<const typename Kv::Item*>(args_.cache.values) + item_.kv_head * head_dim_;
        const int64_t whole = head_dim_ / kWidth * kWidth, slot_stride = args_.cache.slot_stride();
        const int rest = static_cast<int>(head_dim_ - whole);
        for (int64_t key = low_; key < high_; ++key) {
            const auto* from = keys + slots[key] * slot_stride;
            float* to = area_.keys + key * head_dim_;
            for (int64_t dim = 0; dim < whole; dim += kWidth) store(to + dim, Kv::load(from + dim));
            if (rest > 0) store_first(to + whole, Kv::load_first(from + whole, rest), rest);
        }
        for (int64_t i = low_ / kMicroKeys * kMicroKeys * head_dim_; i < low_ * head_dim_; ++i) area_.keys[i] = 0;
        for (int64_t i = high_ * head_dim_; i < round_up(high_, kMicroKeys) * head_dim_; ++i) area_.keys[i] = 0;
        F32 poison = zero();  // NaN once something was no finite number
        for (int64_t key = low_; key < high_; ++key) {
            const auto* from = values + slots[key] * slot_stride;
            for (int64_t dim = 0; dim < padded_dim_; dim += kWidth) {
                const F32 value = dim < whole ? Kv::load(from + dim) : Kv::load_first(from + dim, rest);
                const int64_t panel = dim / kPanel * kPanel, width = smaller(kPanel, padded_dim_ - panel);
                store(area_.values + panel * kTileTokens + key * width + dim - panel, value);
                poison = fma(value, zero(), poison);
            }
        }
        if constexpr (Kv::kScaled)
            for (int64_t key = low_; key < high_; ++key) {
                const int64_t at = slots[key] * args_.cache.num_kv_heads + item_.kv_head;
                area_.key_scales[key] = args_.cache.key_scales[at];
                area_.value_scales[key] = args_.cache.value_scales[at];
                poison = fma(broadcast(area_.value_scales[key]), zero(), poison);
            }
        is_finite_ = sum(poison) == 0;
    }

    // Scores of a panel's rows and, in their place, the weights exp(score - max); zero for keys that a row does not see.
    void score_panel(int64_t row) {
        const int64_t width = rows_of_panel(row);
        const KeyRange seen = keys_seen(row, row + width);
        // The softmax takes kWidth keys at a time.
        const KeyRange taken{seen.begin / kWidth * kWidth, round_up(seen.end, kWidth)};
        float* scores = area_.scores + row;
        for (int64_t key = seen.begin / kMicroKeys * kMicroKeys; key < seen.end; key += kMicroKeys)
            (width == kPanel ? score_block<2> : score_block<1>)(area_.keys + key * head_dim_,
                                                                area_.query + row * head_dim_, head_dim_,
                                                                scores + key * stride_, stride_);
        adjust_scores(row, width, seen);
        hide_unseen(row, width, seen, taken);
        for (int64_t lane = 0; lane < width; lane += kWidth) {
            softmax(scores + lane, row + lane, taken);
            for (int64_t key = low_; key < taken.begin; ++key) store(scores + key * stride_ + lane, zero());
            for (int64_t key = taken.end; key < high_; ++key) store(scores + key * stride_ + lane, zero());
        }
    }

    // Multiply with the scales of the keys, and cap.
    void adjust_scores(int64_t row, int64_t width, KeyRange seen) {
        if (!Kv::kScaled && args_.soft_cap == 0) return;
        for (int64_t key = seen.begin; key < seen.end; ++key)
            for (int64_t lane = 0; lane < width; lane += kWidth) {
                float* at = area_.scores + key * stride_ + row + lane;
                F32 score = load(at);
                if constexpr (Kv::kScaled) score = score * broadcast(area_.key_scales[key]);
                if (args_.soft_cap != 0) score = soft_cap(score, broadcast(args_.soft_cap));
                store(at, score);
            }
    }

    // A key at position p is seen by the queries at p, p + 1, … p + window - 1: neither by the first rows nor by the last.
    void hide_unseen(int64_t row, int64_t width, KeyRange seen, KeyRange taken) {
        for (int64_t key = taken.begin; key < taken.end; ++key) {
            const int64_t distance = first_ + key - first_position_;
            float* scores = area_.scores + key * stride_ + row;
            const bool is_seen = key >= seen.begin && key < seen.end;
            const int64_t before = is_seen ? smaller(distance * group_ - row, width) : width;
            for (int64_t r = 0; r < before; ++r) scores[r] = kMinusInfinity;
            if (args_.window == 0) continue;
            for (int64_t r = larger((distance + args_.window) * group_ - row, 0); r < width; ++r)
                scores[r] = kMinusInfinity;
        }
    }

    // One vector of rows: exp(score - max) in place, and how the sums so far and those of this tile go together.
    void softmax(float* scores, int64_t row, KeyRange taken) {
        F32 largest = broadcast(kLowest);
        for (int64_t key = taken.begin; key < taken.end; ++key) largest = max(load(scores + key * stride_), largest);
        F32 totals[kWidth];
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) totals[i] = zero();
        for (int64_t key = taken.begin; key < taken.end; key += kWidth)
#pragma GCC unroll 16
            for (int i = 0; i < kWidth; ++i) {
                float* at = scores + (key + i) * stride_;
                const F32 weight = exp(load(at) - largest);
                store(at, Kv::kScaled ? weight * broadcast(area_.value_scales[key + i]) : weight);
                totals[i] = totals[i] + weight;
            }
        const Merge merge(load(area_.max_score + row), largest);
        store(area_.max_score + row, merge.max_score);
        store(area_.weight_sum + row,
              merged(merge.before, load(area_.weight_sum + row), merge.tile, sum_tree<kWidth>(totals)));
        store(area_.factor_before + row, merge.before);
        store(area_.factor_of_tile + row, merge.tile);
    }

    template <int kRows>
    void add_rows(int64_t row) {
        const KeyRange seen = keys_seen(row, row + kRows);
        if (seen.begin >= seen.end) return;
        for (int64_t dim = 0; dim < padded_dim_; dim += kPanel) {
            const int64_t width = smaller(kPanel, padded_dim_ - dim);
            (width == kPanel ? add_block<kRows, 2> : add_block<kRows, 1>)(
                area_.scores + seen.begin * stride_ + row, stride_, seen.end - seen.begin,
                area_.values + dim * kTileTokens + seen.begin * width, area_.factor_before + row,
                area_.factor_of_tile + row, area_.output + row * padded_dim_ + dim, padded_dim_);
        }
    }

    void write_output() {
        for (int64_t row = 0; row < num_rows_; ++row)
            write_head(args_, sequence_.first_token + item_.first_query + row / group_,
                       item_.kv_head * group_ + row % group_, area_.output + row * padded_dim_,
                       broadcast(area_.max_score[row]), broadcast(area_.weight_sum[row]));
    }

    const PagedAttentionArgs& args_;
    const PrefillArea area_;
    const Sequence sequence_;
    const PrefillItem& item_;
    const int64_t head_dim_, padded_dim_, group_, num_rows_, padded_rows_, stride_, first_position_;
    // The tile of keys that is being computed: its first position, and which of its keys any of the rows sees.
    int64_t first_ = 0, low_ = 0, high_ = 0;
    bool is_finite_ = true;  // all values of the tile
};

}  // namespace octavo::OCTAVO_ISA
