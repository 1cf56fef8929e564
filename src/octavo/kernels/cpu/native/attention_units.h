// Products of queries, keys and values that are summed lane by lane, for any kind of unit: what a lane multiplies at a time
// with one number of the other side, a float or a pair of bfloat16. Include in .isa.cc files only.
//
// `Units` says what a unit is:
//   Unit, Vector                   one, and kWidth of them
//   kNumbers                       how many numbers a unit has, neighbours in memory or two tokens' of one dimension
//   load_units(p), broadcast_unit(p)
//   load_keys(p)                   kWidth units of a key in the cache; load_last_keys(p, n): the last n numbers of a head
//   add_products(sums, a, b)       sums + a * b in each lane
#pragma once

#include <type_traits>

#include "attention_order.h"

namespace octavo::OCTAVO_ISA {

// Tokens after which the next key head has its turn. The heads of a token are neighbours in memory, and reading is fastest
// where whole tokens follow each other.
constexpr int kTurnTokens = 8;
// Sums that stay in registers.
constexpr int kSums = kWidth == 16 ? 16 : 8;
// A micro kernel of prefill has the sums of so many broadcast units times two vectors in registers.
constexpr int kMicroRows = kWidth == 16 ? 12 : 6;
constexpr int kMicroKeys = 6;
constexpr int64_t kPanel = 2 * kWidth;
static_assert(kTileTokens % kMicroKeys == 0);

// Keys of a tile, counted from its first.
struct KeyRange {
    int64_t begin, end;
};

// A tile's values for prefill: panels of kPanel columns, the last one may have kWidth, each [units of tokens][columns].
template <typename Unit>
struct ValuePanels {
    Unit* units;
    int64_t padded_dim, units_of_tile;

    int64_t width_at(int64_t dim) const { return smaller(kPanel, padded_dim - dim / kPanel * kPanel); }
    // Column `dim`, a multiple of kWidth, of a unit.
    Unit* at(int64_t unit, int64_t dim) const {
        const int64_t panel = dim / kPanel * kPanel;
        return units + panel * units_of_tile + unit * width_at(dim) + dim - panel;
    }
};

// The largest power of two that is no larger than n and `most`.
constexpr int power_of_two_below(int n, int most) {
    int power = 1;
    while (2 * power <= n && 2 * power <= most) power *= 2;
    return power;
}

// Scores of kTurnTokens tokens for kHeads heads: dot products of rows of `query` with rows of `keys`.
template <typename Units, int kHeads>
inline void score_turn(const typename Units::Unit* query, int64_t query_stride, const typename Units::Item* keys,
                       const int64_t* offsets, int64_t head_dim, float* scores) {
    using Item = typename Units::Item;
    constexpr int kTokens = power_of_two_below(kSums / kHeads, kTurnTokens);
    constexpr int kVectors = (kHeads * kTokens + kWidth - 1) / kWidth * kWidth;
    constexpr int kDims = Units::kNumbers * kWidth;
    const int64_t whole = head_dim / kDims * kDims;
    const int rest = static_cast<int>(head_dim - whole);
    for (int64_t token = 0; token < kTurnTokens; token += kTokens) {
        const Item* rows[kTokens];
        for (int t = 0; t < kTokens; ++t) rows[t] = keys + offsets[token + t];
        F32 sums[kVectors];
#pragma GCC unroll 16
        for (int i = 0; i < kVectors; ++i) sums[i] = zero();
        const auto add = [&](int64_t dim, auto&& load_keys) __attribute__((always_inline)) {
            typename Units::Vector key[kTokens];
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) key[t] = load_keys(rows[t] + dim);
#pragma GCC unroll 8
            for (int h = 0; h < kHeads; ++h) {
                const auto part = Units::load_units(query + h * query_stride + dim / Units::kNumbers);
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t)
                    sums[h * kTokens + t] = Units::add_products(sums[h * kTokens + t], part, key[t]);
            }
        };
        for (int64_t dim = 0; dim < whole; dim += kDims)
            add(dim, [](const Item* p) { return Units::load_keys(p); });
        if (rest > 0) add(whole, [rest](const Item* p) { return Units::load_last_keys(p, rest); });
        float dots[kVectors];
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; i += kWidth) store(dots + i, sum_each(sums + i));
        for (int h = 0; h < kHeads; ++h)
            for (int t = 0; t < kTokens; ++t) scores[h * kTileTokens + token + t] = dots[h * kTokens + t];
    }
}

template <int kCount, int kVectors>
__attribute__((always_inline)) inline void set_zero(F32 (&sums)[kCount][kVectors]) {
#pragma GCC unroll 12
    for (int i = 0; i < kCount; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[i][v] = zero();
}

// sums[i] += units[i * stride] * vectors, for kCount units and kVectors vectors of units.
template <typename Units, int kCount, int kVectors, typename Size>
__attribute__((always_inline)) inline void add_outer_product(const typename Units::Unit* units, Size stride,
                                                             const typename Units::Unit* vectors,
                                                             F32 (&sums)[kCount][kVectors]) {
    typename Units::Vector vector[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) vector[v] = Units::load_units(vectors + v * kWidth);
#pragma GCC unroll 12
    for (int i = 0; i < kCount; ++i) {
        const auto unit = Units::broadcast_unit(units + i * stride);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[i][v] = Units::add_products(sums[i][v], unit, vector[v]);
    }
}

// sums[key][row]: the products of the units of kLanes lanes from kFirst on, added as sum_each does. `query` is moved on
// to the next lane's units.
template <typename Units, int kFirst, int kLanes, int kVectors, typename Size>
__attribute__((always_inline)) inline void score_lanes(const typename Units::Unit* keys, Size num_units,
                                                       const typename Units::Unit*& query,
                                                       F32 (&sums)[kMicroKeys][kVectors]) {
    if constexpr (kLanes == 1) {
        set_zero(sums);
        for (int64_t unit = kFirst; unit < num_units; unit += kWidth, query += kVectors * kWidth)
            add_outer_product<Units>(keys + unit, num_units, query, sums);
    } else {
        F32 others[kMicroKeys][kVectors];
        score_lanes<Units, kFirst, kLanes / 2, kVectors>(keys, num_units, query, sums);
        score_lanes<Units, kFirst + kLanes / 2, kLanes / 2, kVectors>(keys, num_units, query, others);
#pragma GCC unroll 12
        for (int k = 0; k < kMicroKeys; ++k)
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[k][v] = sums[k][v] + others[k][v];
    }
}

// scores[key][row] = keys[key] . query[row], for kMicroKeys keys and kVectors vectors of rows.
template <typename Units, int kVectors, typename Size>
void score_keys(const typename Units::Unit* keys, const typename Units::Unit* query, Size num_units, float* scores,
                int64_t stride) {
    F32 sums[kMicroKeys][kVectors];
    score_lanes<Units, 0, kWidth, kVectors>(keys, num_units, query, sums);
#pragma GCC unroll 12
    for (int k = 0; k < kMicroKeys; ++k)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(scores + k * stride + v * kWidth, sums[k][v]);
}

// With the offset of each key known to the compiler for the usual sizes, a micro kernel needs few registers for addresses.
template <typename Units, int kVectors>
void score_block(const typename Units::Unit* keys, const typename Units::Unit* query, int64_t num_units, float* scores,
                 int64_t stride) {
    if (num_units == 64 / Units::kNumbers)
        score_keys<Units, kVectors>(keys, query, std::integral_constant<int64_t, 64 / Units::kNumbers>(), scores, stride);
    else if (num_units == 128 / Units::kNumbers)
        score_keys<Units, kVectors>(keys, query, std::integral_constant<int64_t, 128 / Units::kNumbers>(), scores, stride);
    else
        score_keys<Units, kVectors>(keys, query, num_units, scores, stride);
}

// Merge the sum of weights[unit][row] * values[unit] over num_units units of tokens into output[row], for kRows rows and
// kVectors vectors of columns.
template <typename Units, int kRows, int kVectors>
void add_block(const typename Units::Unit* weights, int64_t stride, int64_t num_units,
               const typename Units::Unit* values, const float* factor_before, const float* factor_of_tile, float* output,
               int64_t output_stride) {
    F32 sums[kRows][kVectors];
    set_zero(sums);
    constexpr std::integral_constant<int64_t, 1> next;
    for (int64_t unit = 0; unit < num_units; ++unit, weights += stride, values += kVectors * kWidth)
        add_outer_product<Units>(weights, next, values, sums);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            float* to = output + r * output_stride + v * kWidth;
            store(to, merged(broadcast(factor_before[r]), load(to), broadcast(factor_of_tile[r]), sums[r][v]));
        }
}

}  // namespace octavo::OCTAVO_ISA
