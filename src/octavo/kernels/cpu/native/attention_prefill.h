// Attention of a sequence with several queries. Include in .isa.cc files only.
//
// A tile of queries, all heads of one group, goes over the keys it sees in tiles, with the softmax carried along
// (arXiv:2205.14135). Rows are (query, head of the group) pairs, and scores are kept with rows in the lanes: then keys and
// values are used in the order in which they are stored, and the softmax needs no sums across lanes. Tiles of keys start at
// fixed positions and what a row must not see adds exact zeros, so a row is the same bits however its sequence is cut into
// chunks.
#pragma once

#include "attention_work.h"

namespace octavo::OCTAVO_ISA {

// Rows of a tile of queries, and keys of a tile of keys: multiples of what a micro kernel takes.
constexpr int64_t kTileRows = 96;
constexpr int64_t kTileKeys = 120;
// A micro kernel has the sums of so many broadcast numbers times two vectors in registers.
constexpr int kMicroRows = kWidth == 16 ? 12 : 6;
constexpr int64_t kPanel = 2 * kWidth;
static_assert(kTileRows % kMicroRows == 0 && kTileRows % kPanel == 0 && kTileKeys % kMicroRows == 0);

// A tile of queries of one sequence, for one key head.
struct PrefillItem {
    int64_t sequence, first_query, num_queries, kv_head;
};

inline int64_t queries_of_tile(const PagedAttentionArgs& args) {
    return larger(1, kTileRows / (args.num_heads / args.cache.num_kv_heads));
}

// Scratch space of a thread.
struct PrefillArea {
    float* query;    // panels of kPanel rows, each [head_dim][rows of the panel]
    float* keys;     // [kTileKeys][head_dim]
    float* values;   // panels of kPanel columns, each [kTileKeys][columns of the panel]
    float* scores;   // [kTileKeys][tile_rows]
    float* output;   // [tile_rows][padded head_dim]
    float* max_score;   // [tile_rows], as are the following
    float* weight_sum;
    float* factor;  // of what was summed up before this tile of keys

    static int64_t tile_rows(const PagedAttentionArgs& args) {
        return larger(kTileRows, round_up(args.num_heads / args.cache.num_kv_heads, kTileRows));
    }
    static int64_t floats(const PagedAttentionArgs& args) {
        const int64_t head_dim = round_up(args.cache.head_dim, kWidth), rows = tile_rows(args);
        return 2 * (rows + kTileKeys) * head_dim + (kTileKeys + 3) * rows;
    }
    PrefillArea(const PagedAttentionArgs& args, float* area) {
        const int64_t head_dim = round_up(args.cache.head_dim, kWidth), rows = tile_rows(args);
        query = area;
        keys = query + rows * head_dim;
        values = keys + kTileKeys * head_dim;
        scores = values + kTileKeys * head_dim;
        output = scores + kTileKeys * rows;
        max_score = output + rows * head_dim;
        weight_sum = max_score + rows;
        factor = weight_sum + rows;
    }
};

// scores[key][row] = keys[key] . query[row], for kMicroRows keys and kVectors vectors of rows.
template <int kVectors>
inline void score_block(const float* keys, const float* query, int64_t head_dim, float* scores, int64_t stride) {
    F32 sums[kMicroRows][kVectors];
#pragma GCC unroll 12
    for (int k = 0; k < kMicroRows; ++k)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[k][v] = zero();
    for (int64_t dim = 0; dim < head_dim; ++dim) {
        F32 part[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) part[v] = load(query + v * kWidth);
        query += kVectors * kWidth;
#pragma GCC unroll 12
        for (int k = 0; k < kMicroRows; ++k) {
            const F32 key = broadcast(keys[k * head_dim + dim]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[k][v] = fma(key, part[v], sums[k][v]);
        }
    }
#pragma GCC unroll 12
    for (int k = 0; k < kMicroRows; ++k)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(scores + k * stride + v * kWidth, sums[k][v]);
}

// output[row] = output[row] * factor[row] + sum of weights[key][row] * values[key], for kMicroRows rows and kVectors
// vectors of columns.
template <int kVectors>
inline void add_block(const float* weights, int64_t stride, int64_t num_keys, const float* values, const float* factor,
                      float* output, int64_t output_stride) {
    F32 sums[kMicroRows][kVectors];
#pragma GCC unroll 12
    for (int r = 0; r < kMicroRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v)
            sums[r][v] = broadcast(factor[r]) * load(output + r * output_stride + v * kWidth);
    for (int64_t key = 0; key < num_keys; ++key) {
        F32 value[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) value[v] = load(values + v * kWidth);
        values += kVectors * kWidth;
#pragma GCC unroll 12
        for (int r = 0; r < kMicroRows; ++r) {
            const F32 weight = broadcast(weights[r]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(weight, value[v], sums[r][v]);
        }
        weights += stride;
    }
#pragma GCC unroll 12
    for (int r = 0; r < kMicroRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(output + r * output_stride + v * kWidth, sums[r][v]);
}

// One tile of queries on its way over the keys. Positions of keys are relative to the first of their tile where they are
// called `key`.
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
          stride_(PrefillArea::tile_rows(args)),
          first_position_(sequence_.position_of_query(item.first_query)) {}

    void run() {
        pack_query();
        const int64_t begin = first_visible(args_, first_position_), end = first_position_ + item_.num_queries;
        for (int64_t first = begin / kTileKeys * kTileKeys; first < end; first += kTileKeys) {
            const int64_t low = larger(begin - first, 0), high = smaller(end - first, kTileKeys);
            load_tile(first, low, high);
            for (int64_t row = 0; row < padded_rows_; row += kPanel) score_panel(row, first, low, high);
            for (int64_t row = 0; row < num_rows_; row += kMicroRows) add_rows(row, first, low, high);
        }
        write_output();
    }

  private:
    struct KeyRange {
        int64_t begin, end;
    };

    // The keys of a tile that any of the rows [row, end) sees.
    KeyRange keys_seen(int64_t row, int64_t end, int64_t first, int64_t low, int64_t high) const {
        const int64_t first_position = first_position_ + row / group_;
        const int64_t last_position = first_position_ + (smaller(end, num_rows_) - 1) / group_;
        return {larger(low, first_visible(args_, first_position) - first), smaller(high, last_position + 1 - first)};
    }

    int64_t rows_of_panel(int64_t row) const { return smaller(kPanel, padded_rows_ - row); }

    void pack_query() {
        const float* query = args_.query + (sequence_.first_token + item_.first_query) * args_.query_stride +
                             item_.kv_head * group_ * head_dim_;
        for (int64_t panel = 0; panel < padded_rows_; panel += kPanel) {
            float* packed = area_.query + panel * head_dim_;
            const int64_t width = rows_of_panel(panel);
            for (int64_t r = 0; r < width; ++r) {
                const int64_t row = panel + r;
                const float* from = query + row / group_ * args_.query_stride + row % group_ * head_dim_;
                for (int64_t dim = 0; dim < head_dim_; ++dim)
                    packed[dim * width + r] = row < num_rows_ ? from[dim] * args_.scale : 0;
            }
        }
        for (int64_t i = 0; i < round_up(num_rows_, kMicroRows) * padded_dim_; i += kWidth)
            store(area_.output + i, zero());
        for (int64_t row = 0; row < stride_; row += kWidth) {
            store(area_.max_score + row, broadcast(kLowest));
            store(area_.weight_sum + row, zero());
        }
    }

    // Copy keys and values [low, high) of the tile, widened; keys up to the end of a micro kernel's rows are zero.
    void load_tile(int64_t first, int64_t low, int64_t high) {
        int64_t offsets[kTileKeys];
        find_tokens(args_, sequence_, first + low, first + high, offsets + low);
        const auto* keys = static_cast<const typename Kv::Item*>(args_.cache.keys) + item_.kv_head * head_dim_;
        const auto* values = static_cast<const typename Kv::Item*>(args_.cache.values) + item_.kv_head * head_dim_;
        const int64_t whole = head_dim_ / kWidth * kWidth;
        const int rest = static_cast<int>(head_dim_ - whole);
        for (int64_t key = low; key < high; ++key) {
            const auto* from = keys + offsets[key];
            float* to = area_.keys + key * head_dim_;
            for (int64_t dim = 0; dim < whole; dim += kWidth) store(to + dim, Kv::load(from + dim));
            if (rest > 0) store_first(to + whole, Kv::load_first(from + whole, rest), rest);
        }
        for (int64_t i = low / kMicroRows * kMicroRows * head_dim_; i < low * head_dim_; ++i) area_.keys[i] = 0;
        for (int64_t i = high * head_dim_; i < round_up(high, kMicroRows) * head_dim_; ++i) area_.keys[i] = 0;
        for (int64_t key = low; key < high; ++key) {
            const auto* from = values + offsets[key];
            for (int64_t dim = 0; dim < padded_dim_; dim += kWidth) {
                const F32 value = dim < whole ? Kv::load(from + dim) : Kv::load_first(from + dim, rest);
                const int64_t panel = dim / kPanel * kPanel, width = smaller(kPanel, padded_dim_ - panel);
                store(area_.values + panel * kTileKeys + key * width + dim - panel, value);
            }
        }
    }

    // Scores of a panel's rows and, in their place, the weights exp(score - max); zero for keys that a row does not see.
    void score_panel(int64_t row, int64_t first, int64_t low, int64_t high) {
        const int64_t width = rows_of_panel(row);
        const KeyRange seen = row < num_rows_ ? keys_seen(row, row + width, first, low, high) : KeyRange{low, low};
        float* scores = area_.scores + row;
        if (seen.begin < seen.end) {
            for (int64_t key = seen.begin / kMicroRows * kMicroRows; key < seen.end; key += kMicroRows)
                (width == kPanel ? score_block<2> : score_block<1>)(
                    area_.keys + key * head_dim_, area_.query + row * head_dim_, head_dim_, scores + key * stride_, stride_);
            hide_unseen(row, width, first, seen);
        }
        for (int64_t lane = 0; lane < width; lane += kWidth) {
            softmax(scores + lane, row + lane, seen);
            for (int64_t key = low; key < smaller(seen.begin, high); ++key) store(scores + key * stride_ + lane, zero());
            for (int64_t key = larger(seen.end, low); key < high; ++key) store(scores + key * stride_ + lane, zero());
        }
    }

    // A key at position p is seen by the queries at p, p + 1, … p + window - 1: neither by the first rows nor by the last.
    void hide_unseen(int64_t row, int64_t width, int64_t first, KeyRange seen) {
        for (int64_t key = seen.begin; key < seen.end; ++key) {
            const int64_t distance = first + key - first_position_;
            float* scores = area_.scores + key * stride_ + row;
            for (int64_t r = 0; r < smaller(distance * group_ - row, width); ++r) scores[r] = kMinusInfinity;
            if (args_.window == 0) continue;
            for (int64_t r = larger((distance + args_.window) * group_ - row, 0); r < width; ++r)
                scores[r] = kMinusInfinity;
        }
    }

    // One vector of rows: exp(score - max) in place, with the sum so far made smaller by `factor` as the maximum grew.
    void softmax(float* scores, int64_t row, KeyRange seen) {
        const F32 before = load(area_.max_score + row);
        F32 largest = before;
        for (int64_t key = seen.begin; key < seen.end; ++key) largest = max(load(scores + key * stride_), largest);
        const F32 factor = exp(before - largest);
        F32 total = load(area_.weight_sum + row) * factor;
        for (int64_t key = seen.begin; key < seen.end; ++key) {
            const F32 weight = exp(load(scores + key * stride_) - largest);
            store(scores + key * stride_, weight);
            total = total + weight;
        }
        store(area_.max_score + row, largest);
        store(area_.weight_sum + row, total);
        store(area_.factor + row, factor);
    }

    void add_rows(int64_t row, int64_t first, int64_t low, int64_t high) {
        const KeyRange seen = keys_seen(row, row + kMicroRows, first, low, high);
        if (seen.begin >= seen.end) return;
        for (int64_t dim = 0; dim < padded_dim_; dim += kPanel) {
            const int64_t width = smaller(kPanel, padded_dim_ - dim);
            (width == kPanel ? add_block<2> : add_block<1>)(
                area_.scores + seen.begin * stride_ + row, stride_, seen.end - seen.begin,
                area_.values + dim * kTileKeys + seen.begin * width, area_.factor + row,
                area_.output + row * padded_dim_ + dim, padded_dim_);
        }
    }

    void write_output() {
        float* output = args_.output + ((sequence_.first_token + item_.first_query) * args_.num_heads +
                                        item_.kv_head * group_) * head_dim_;
        for (int64_t row = 0; row < num_rows_; ++row) {
            float* to = output + (row / group_ * args_.num_heads + row % group_) * head_dim_;
            const F32 sum = broadcast(area_.weight_sum[row]);
            for (int64_t dim = 0; dim < head_dim_; dim += kWidth)
                store_first(to + dim, load(area_.output + row * padded_dim_ + dim) / sum,
                            static_cast<int>(smaller(kWidth, head_dim_ - dim)));
        }
    }

    const PagedAttentionArgs& args_;
    const PrefillArea area_;
    const Sequence sequence_;
    const PrefillItem& item_;
    const int64_t head_dim_, padded_dim_, group_, num_rows_, padded_rows_, stride_, first_position_;
};

}  // namespace octavo::OCTAVO_ISA
