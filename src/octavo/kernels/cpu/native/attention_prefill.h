// Attention of a sequence with several queries. Include in .isa.cc files only.
//
// Products (attention_fp32.h and others) says how numbers of the cache are multiplied.
//
// A lot of queries, all heads of one group, goes over the keys it sees in tiles, with the softmax carried along
// (arXiv:2205.14135). Rows are (query, head of the group) pairs, and scores are kept with rows in the lanes: then keys and
// values are used in the order in which they are stored, and the softmax needs no sums across lanes. What a row must not
// see adds exact zeros.
#pragma once

#include "attention_units.h"

namespace octavo::OCTAVO_ISA {

// Rows of an item.
constexpr int64_t kItemRows = 96;
static_assert(kItemRows % kMicroRows == 0 && kItemRows % kPanel == 0);

// Some queries of one sequence, for one key head.
struct PrefillItem {
    int64_t sequence, first_query, num_queries, kv_head;
};

inline int64_t queries_of_item(const PagedAttentionArgs& args) {
    return larger(1, kItemRows / (args.num_heads / args.cache.num_kv_heads));
}

// Brings in the queries of an item in small portions. They lie apart from each other, so the processor does not see them coming.
class QueryFetch {
  public:
    QueryFetch() = default;
    QueryFetch(const PagedAttentionArgs& args, const PrefillItem& item)
        : stride_(args.query_stride * sizeof(float)), num_left_(item.num_queries) {
        const int64_t head_floats = args.num_heads / args.cache.num_kv_heads * args.cache.head_dim;
        const int64_t first = Sequence(args, item.sequence).first_token + item.first_query;
        next_ = reinterpret_cast<const char*>(args.query + first * args.query_stride + item.kv_head * head_floats);
        num_bytes_ = head_floats * sizeof(float);
    }

    void fetch(int64_t num_lines) {
        for (; num_lines > 0 && num_left_ > 0; --num_lines) {
            prefetch_l2(next_ + offset_);
            offset_ += kCacheLine;
            if (offset_ < num_bytes_) continue;
            offset_ = 0;
            next_ += stride_;
            --num_left_;
        }
    }

  private:
    const char* next_ = nullptr;
    int64_t stride_ = 0, num_bytes_ = 0, num_left_ = 0, offset_ = 0;
};

// Scratch space of a thread.
template <typename Products>
struct PrefillArea {
    using Unit = typename Products::Unit;
    Unit* query;          // panels of kPanel rows, each [units of a head][rows of the panel], the units in the order of lanes
    Unit* keys;           // [kTileTokens][units of a head]
    Unit* values;         // as in ValuePanels
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
        static_assert(sizeof(Unit) == sizeof(float));
        query = reinterpret_cast<Unit*>(area);
        keys = query + num_rows * head_dim;
        values = keys + kTileTokens * head_dim;
        scores = reinterpret_cast<float*>(values + kTileTokens * head_dim);
        output = scores + kTileTokens * num_rows;
        key_scales = output + num_rows * head_dim;
        value_scales = key_scales + kTileTokens;
        max_score = value_scales + kTileTokens;
        weight_sum = max_score + num_rows;
        factor_before = weight_sum + num_rows;
        factor_of_tile = factor_before + num_rows;
    }
};

// Some queries on their way over the keys. Keys are counted from the first of their tile where they are called `key`.
template <typename Products>
class Prefill {
    using Item = typename Products::Item;
    using Unit = typename Products::Unit;
    static constexpr int kNumbers = Products::kNumbers;
    // Of the next queries, while a micro kernel computes: all of them come within a tile.
    static constexpr int kLinesAhead = 12;

  public:
    // The next item, which may be null, is computed soon, probably by this thread.
    Prefill(const PagedAttentionArgs& args, const PrefillItem& item, const PrefillItem* next, float* area)
        : args_(args),
          area_(args, area),
          sequence_(args, item.sequence),
          item_(item),
          head_dim_(args.cache.head_dim),
          padded_dim_(round_up(head_dim_, kWidth)),
          num_units_(head_dim_ / kNumbers),
          group_(args.num_heads / args.cache.num_kv_heads),
          num_rows_(item.num_queries * group_),
          padded_rows_(round_up(num_rows_, kWidth)),
          stride_(PrefillArea<Products>::rows(args)),
          first_position_(sequence_.position_of_query(item.first_query)) {
        if (next) next_queries_ = QueryFetch(args, *next);
    }

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
                for (int64_t row = 0; row < num_rows_; ++row) add_row_alone(row);
        }
        write_output();
    }

  private:
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
        Unit* packed = area_.values;  // one row, before it is turned
        for (int64_t panel = 0; panel < padded_rows_; panel += kPanel) {
            const int64_t width = rows_of_panel(panel);
            for (int64_t r = 0; r < width; ++r) {
                const int64_t row = panel + r;
                if (row < num_rows_)
                    Products::pack_query(query + row / group_ * args_.query_stride + row % group_ * head_dim_, args_.scale,
                                         head_dim_, packed);
                Unit* to = area_.query + panel * num_units_ + r;
                for (int64_t lane = 0; lane < kWidth; ++lane)
                    for (int64_t unit = lane; unit < num_units_; unit += kWidth, to += width)
                        *to = row < num_rows_ ? packed[unit] : Unit{};
            }
        }
        for (int64_t i = 0; i < round_up(num_rows_, kMicroRows) * padded_dim_; i += kWidth)
            store(area_.output + i, zero());
        for (int64_t row = 0; row < stride_; row += kWidth) {
            store(area_.max_score + row, broadcast(kLowest));
            store(area_.weight_sum + row, zero());
        }
    }

    ValuePanels<Unit> values() const { return {area_.values, padded_dim_, kTileTokens / kNumbers}; }

    // Bring the keys and values [low, high) of the tile into the form in which they are multiplied; keys up to the end of a
    // micro kernel's are zero, and so are values in a unit with one that is not of the range.
    void load_tile() {
        find_slots(args_, sequence_, first_ + low_, first_ + high_, slots_ + low_);
        const int64_t slot_stride = args_.cache.slot_stride();
        const auto* keys = static_cast<const Item*>(args_.cache.keys) + item_.kv_head * head_dim_;
        for (int64_t key = low_; key < high_; ++key)
            Products::load_key(keys + slots_[key] * slot_stride, head_dim_, area_.keys + key * num_units_);
        for (int64_t i = low_ / kMicroKeys * kMicroKeys * num_units_; i < low_ * num_units_; ++i) area_.keys[i] = Unit{};
        for (int64_t i = high_ * num_units_; i < round_up(high_, kMicroKeys) * num_units_; ++i) area_.keys[i] = Unit{};
        is_finite_ = true;
        for (int64_t unit = low_ / kNumbers; unit * kNumbers < high_; ++unit) is_finite_ &= load_values(unit, {low_, high_});
        if constexpr (Products::kScaled)
            for (int64_t key = low_; key < high_; ++key) {
                const int64_t at = slots_[key] * args_.cache.num_kv_heads + item_.kv_head;
                area_.key_scales[key] = args_.cache.key_scales[at];
                area_.value_scales[key] = args_.cache.value_scales[at];
                is_finite_ &= area_.value_scales[key] * 0 == 0;
            }
    }

    // The values of a unit's tokens that are in `range`, zero for others; whether all are finite.
    bool load_values(int64_t unit, KeyRange range) {
        const auto* values_of_head = static_cast<const Item*>(args_.cache.values) + item_.kv_head * head_dim_;
        const Item* rows[kNumbers];
        for (int i = 0; i < kNumbers; ++i) {
            const int64_t key = unit * kNumbers + i;
            const bool is_there = key >= range.begin && key < range.end;
            rows[i] = is_there ? values_of_head + slots_[key] * args_.cache.slot_stride() : Products::zeros();
        }
        return Products::load_values(rows, head_dim_, values(), unit);
    }

    // Scores of a panel's rows and, in their place, the weights exp(score - max); zero for keys that a row does not see.
    void score_panel(int64_t row) {
        const int64_t width = rows_of_panel(row);
        const KeyRange seen = keys_seen(row, row + width);
        // The softmax takes kWidth keys at a time.
        const KeyRange taken{seen.begin / kWidth * kWidth, round_up(seen.end, kWidth)};
        float* scores = area_.scores + row;
        for (int64_t key = seen.begin / kMicroKeys * kMicroKeys; key < seen.end; key += kMicroKeys) {
            next_queries_.fetch(kLinesAhead);
            (width == kPanel ? score_block<Products, 2> : score_block<Products, 1>)(
                area_.keys + key * num_units_, area_.query + row * num_units_, num_units_, scores + key * stride_, stride_);
        }
        adjust_scores(row, width, seen);
        hide_unseen(row, width, seen, taken);
        for (int64_t lane = 0; lane < width; lane += kWidth) {
            softmax(scores + lane, row + lane, taken);
            Products::pack_row_weights(scores + lane, stride_, taken, low_, high_);
        }
    }

    // Multiply with the scales of the keys, and cap.
    void adjust_scores(int64_t row, int64_t width, KeyRange seen) {
        if (!Products::kScaled && args_.soft_cap == 0) return;
        for (int64_t key = seen.begin; key < seen.end; ++key)
            for (int64_t lane = 0; lane < width; lane += kWidth) {
                float* at = area_.scores + key * stride_ + row + lane;
                F32 score = load(at);
                if constexpr (Products::kScaled) score = score * broadcast(area_.key_scales[key]);
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
                store(at, Products::kScaled ? weight * broadcast(area_.value_scales[key + i]) : weight);
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
        const int64_t first = seen.begin / kNumbers, num_units = divide_up(seen.end, kNumbers) - first;
        const auto* weights = reinterpret_cast<const Unit*>(area_.scores) + first * stride_ + row;
        for (int64_t dim = 0; dim < padded_dim_; dim += kPanel)
            (values().width_at(dim) == kPanel ? add_block<Products, kRows, 2> : add_block<Products, kRows, 1>)(
                weights, stride_, num_units, values().at(first, dim), area_.factor_before + row, area_.factor_of_tile + row,
                area_.output + row * padded_dim_ + dim, padded_dim_);
    }

    // A row of a tile in which something is not finite. Zero times that would be no number, so what the row does not see is
    // taken out of the units that it sees a part of.
    void add_row_alone(int64_t row) {
        const KeyRange seen = keys_seen(row, row + 1), all{low_, high_};
        if (seen.begin >= seen.end) return;
        load_values(seen.begin / kNumbers, seen);
        load_values((seen.end - 1) / kNumbers, seen);
        add_rows<1>(row);
        load_values(seen.begin / kNumbers, all);
        load_values((seen.end - 1) / kNumbers, all);
    }

    void write_output() {
        for (int64_t row = 0; row < num_rows_; ++row)
            write_head(args_, sequence_.first_token + item_.first_query + row / group_,
                       item_.kv_head * group_ + row % group_, area_.output + row * padded_dim_,
                       broadcast(area_.max_score[row]), broadcast(area_.weight_sum[row]));
    }

    const PagedAttentionArgs& args_;
    const PrefillArea<Products> area_;
    const Sequence sequence_;
    const PrefillItem& item_;
    const int64_t head_dim_, padded_dim_, num_units_, group_, num_rows_, padded_rows_, stride_, first_position_;
    // The tile of keys that is being computed: its first position, and which of its keys any of the rows sees.
    int64_t first_ = 0, low_ = 0, high_ = 0;
    int64_t slots_[kTileTokens];
    bool is_finite_ = true;  // all values of the tile
    QueryFetch next_queries_;
};

}  // namespace octavo::OCTAVO_ISA
