// Attention with fp32 products over a cache of any type. Include in .isa.cc files only.
#pragma once

#include "attention_units.h"

namespace octavo::OCTAVO_ISA {

template <typename Kv>
struct Fp32Products {
    using Item = typename Kv::Item;
    using Unit = float;
    using Vector = F32;
    static constexpr int kNumbers = 1;
    static constexpr bool kScaled = Kv::kScaled;

    static Vector load_units(const Unit* p) { return load(p); }
    static Vector broadcast_unit(const Unit* p) { return broadcast(*p); }
    static Vector load_keys(const Item* p) { return Kv::load(p); }
    static Vector load_last_keys(const Item* p, int n) { return Kv::load_first(p, n); }
    static F32 add_products(F32 sums, Vector a, Vector b) { return fma(a, b, sums); }

    // The units of a head of a query, times the scale; zero up to a whole vector.
    static void pack_query(const float* from, float scale, int64_t head_dim, Unit* units) {
        for (int64_t dim = 0; dim < head_dim; dim += kWidth)
            store(units + dim,
                  load_first(from + dim, static_cast<int>(smaller(kWidth, head_dim - dim))) * broadcast(scale));
    }

    // Decoding. Weights are used as they are.
    static void pack_weights(float*, int64_t, int64_t) {}
    static const float* weights_of_turn(const float* weights, int64_t token) { return weights + token; }

    // sums[head] += weights[head][token] * values[token], for the tokens [begin, end) of a turn. Weights and offsets are
    // those of the turn's first token.
    template <int kHeads>
    static void add_turn(const float* weights, int64_t begin, int64_t end, const Item* values, const int64_t* offsets,
                         int64_t head_dim, float* sums, int64_t sums_stride) {
        add_values_from<kHeads, power_of_two_below(kSums / kHeads, kSums)>(0, weights + begin, end - begin, values,
                                                                           offsets + begin, head_dim, sums, sums_stride);
    }

    // The sums of a head are in the order of its dimensions.
    static void order_sums(float*, int64_t) {}

    // A head of a token that is not there.
    static const Item* zeros() { return nullptr; }

    // Prefill: a tile's key, widened.
    static void load_key(const Item* from, int64_t head_dim, Unit* key) {
        const int64_t whole = head_dim / kWidth * kWidth;
        const int rest = static_cast<int>(head_dim - whole);
        for (int64_t dim = 0; dim < whole; dim += kWidth) store(key + dim, Kv::load(from + dim));
        if (rest > 0) store_first(key + whole, Kv::load_first(from + whole, rest), rest);
    }

    // A tile's value, widened, as a unit of `panels`; whether all of it is finite.
    static bool load_values(const Item* const (&rows)[1], int64_t head_dim, const ValuePanels<Unit>& panels, int64_t unit) {
        const int64_t whole = head_dim / kWidth * kWidth;
        F32 poison = zero();  // NaN once something was no finite number
        for (int64_t dim = 0; dim < head_dim; dim += kWidth) {
            const F32 value = dim < whole ? Kv::load(rows[0] + dim)
                                          : Kv::load_first(rows[0] + dim, static_cast<int>(head_dim - whole));
            store(panels.at(unit, dim), value);
            poison = fma(value, zero(), poison);
        }
        return sum(poison) == 0;
    }

    // Weights of a vector of rows are used as they are; those of keys in [low, high) outside of `taken` become zero.
    static void pack_row_weights(float* weights, int64_t stride, KeyRange taken, int64_t low, int64_t high) {
        for (int64_t key = low; key < taken.begin; ++key) store(weights + key * stride, zero());
        for (int64_t key = taken.end; key < high; ++key) store(weights + key * stride, zero());
    }

  private:
    // The same for kColumns vectors of each value.
    template <int kHeads, int kColumns>
    static void add_columns(const float* weights, int64_t num_tokens, const Item* values, const int64_t* offsets, int rest,
                            float* sums, int64_t sums_stride) {
        F32 total[kHeads][kColumns];
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 16
            for (int c = 0; c < kColumns; ++c) total[h][c] = load(sums + h * sums_stride + c * kWidth);
        for (int64_t t = 0; t < num_tokens; ++t) {
            const Item* row = values + offsets[t];
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
    template <int kHeads, int kColumns>
    static void add_values_from(int64_t dim, const float* weights, int64_t num_tokens, const Item* values,
                                const int64_t* offsets, int64_t head_dim, float* sums, int64_t sums_stride) {
        for (; dim + kColumns * kWidth <= head_dim; dim += kColumns * kWidth)
            add_columns<kHeads, kColumns>(weights, num_tokens, values + dim, offsets, 0, sums + dim, sums_stride);
        if constexpr (kColumns > 1)
            add_values_from<kHeads, kColumns / 2>(dim, weights, num_tokens, values, offsets, head_dim, sums, sums_stride);
        else if (dim < head_dim)
            add_columns<kHeads, 1>(weights, num_tokens, values + dim, offsets, static_cast<int>(head_dim - dim),
                                   sums + dim, sums_stride);
    }
};

}  // namespace octavo::OCTAVO_ISA
