// Attention over a cache of bfloat16 with products of AVX-512 BF16: queries and weights are rounded to bfloat16, sums are
// fp32. Include in .isa.cc files for avx512_bf16 only.
//
// A unit is a pair: two neighbouring dimensions of a query or a key, or one dimension of two tokens, an even one and the next.
#pragma once

#include "attention_units.h"
#include "kv_cache.h"
#include "simd_bf16.h"

namespace octavo::OCTAVO_ISA {

struct Bf16Products {
    using Item = uint16_t;
    using Unit = uint32_t;
    using Vector = Bf16Pairs;
    static constexpr int kNumbers = 2;
    static constexpr bool kScaled = false;
    static constexpr int64_t kPairDims = 2 * kWidth;  // dimensions of a vector of pairs
    static constexpr int64_t kMaxHeadDim = 1024;

    static bool fit(const KvCache& cache) {
        return cache.type == KvType::bf16 && cache.head_dim % kPairDims == 0 && cache.head_dim <= kMaxHeadDim;
    }

    static Vector load_units(const Unit* p) { return load_pairs(reinterpret_cast<const uint16_t*>(p)); }
    static Vector broadcast_unit(const Unit* p) { return broadcast_pair(reinterpret_cast<const uint16_t*>(p)); }
    static Vector load_keys(const Item* p) { return load_pairs(p); }
    static Vector load_last_keys(const Item* p, int) { return load_pairs(p); }  // heads are whole vectors
    static F32 add_products(F32 sums, Vector a, Vector b) { return OCTAVO_ISA::add_products(sums, a, b); }

    // The units of a head of a query, times the scale.
    static void pack_query(const float* from, float scale, int64_t head_dim, Unit* units) {
        const F32 factor = broadcast(scale);
        for (int64_t dim = 0; dim < head_dim; dim += kPairDims)
            store_vector(units + dim / 2,
                         _mm512_cvtne2ps_pbh(load(from + dim + kWidth) * factor, load(from + dim) * factor));
    }

    // A head of a token that is not there.
    static const Item* zeros() {
        alignas(64) static const Item numbers[kMaxHeadDim] = {};
        return numbers;
    }

    // Decoding. Round the weights of a tile, in place: pairs of tokens then.
    static void pack_weights(float* weights, int64_t low, int64_t high) {
        auto* rounded = reinterpret_cast<uint16_t*>(weights);
        for (int64_t token = low / kWidth * kWidth; token < high; token += kWidth)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(rounded + token),
                                (__m256i)_mm512_cvtneps_pbh(load(weights + token)));
    }
    static const float* weights_of_turn(const float* weights, int64_t token) { return weights + token / 2; }

    // sums[head] += weights[head][pair] * values[pair], for the tokens [begin, end) of a turn. Weights and offsets are those of
    // the turn's first token.
    template <int kHeads>
    static void add_turn(const float* weights, int64_t begin, int64_t end, const Item* values, const int64_t* offsets,
                         int64_t head_dim, float* sums, int64_t sums_stride) {
        const Item* rows[kTurnTokens];
        for (int64_t t = 0; t < kTurnTokens; ++t) rows[t] = t >= begin && t < end ? values + offsets[t] : zeros();
        add_values_from<kHeads, power_of_two_below(kSums / (2 * kHeads), kSums)>(
            0, reinterpret_cast<const Unit*>(weights), rows, head_dim, sums, sums_stride);
    }

    // Bring the sums of a head into the order of its dimensions.
    static void order_sums(float* sums, int64_t head_dim) {
        for (int64_t dim = 0; dim < head_dim; dim += kPairDims) {
            const F32 low = load(sums + dim), high = load(sums + dim + kWidth);
            const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
            store(sums + dim, _mm512_permutex2var_ps(low, first, high));
            store(sums + dim + kWidth, _mm512_permutex2var_ps(low, _mm512_add_epi32(first, _mm512_set1_epi32(8)), high));
        }
    }

    // Prefill: a tile's key as it is.
    static void load_key(const Item* from, int64_t head_dim, Unit* key) {
        for (int64_t dim = 0; dim < head_dim; dim += kPairDims) store_vector(key + dim / 2, load_pairs(from + dim));
    }

    // Two tokens' values as a unit of `panels`; whether all of them are finite.
    static bool load_values(const Item* const (&rows)[2], int64_t head_dim, const ValuePanels<Unit>& panels, int64_t unit) {
        const __m512i exponent = _mm512_set1_epi16(0x7f80);
        const __m512i first = _mm512_setr_epi32(0x00200000, 0x00210001, 0x00220002, 0x00230003, 0x00240004, 0x00250005,
                                                0x00260006, 0x00270007, 0x00280008, 0x00290009, 0x002a000a, 0x002b000b,
                                                0x002c000c, 0x002d000d, 0x002e000e, 0x002f000f);
        const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(kWidth));
        __mmask32 not_finite = 0;
        for (int64_t dim = 0; dim < head_dim; dim += kPairDims) {
            const __m512i even = (__m512i)load_pairs(rows[0] + dim), odd = (__m512i)load_pairs(rows[1] + dim);
            not_finite |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(even, exponent), exponent) |
                          _mm512_cmpeq_epi16_mask(_mm512_and_si512(odd, exponent), exponent);
            store_vector(panels.at(unit, dim), (Vector)_mm512_permutex2var_epi16(even, first, odd));
            store_vector(panels.at(unit, dim + kWidth), (Vector)_mm512_permutex2var_epi16(even, second, odd));
        }
        return not_finite == 0;
    }

    // Weights of a vector of rows become pairs of keys, from the first row of `weights` on; keys in [low, high) outside of
    // `taken` have none.
    static void pack_row_weights(float* weights, int64_t stride, KeyRange taken, int64_t low, int64_t high) {
        for (int64_t unit = low / 2; 2 * unit < high; ++unit) {
            const bool is_taken = 2 * unit >= taken.begin && 2 * unit < taken.end;
            const F32 even = is_taken ? load(weights + 2 * unit * stride) : zero();
            const F32 odd = is_taken ? load(weights + (2 * unit + 1) * stride) : zero();
            const __m512i low_half = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
            const __m512i high_half = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd)), 16);
            _mm512_storeu_si512(weights + unit * stride, _mm512_or_si512(low_half, high_half));
        }
    }

  private:
    static void store_vector(void* p, Vector v) { _mm512_storeu_si512(p, (__m512i)v); }

    // The same for kParts times kPairDims columns of each value. Pairs of tokens come from interleaving, which leaves the
    // dimensions of a vector in another order: the lower four of each eight in one sum, the upper four in another.
    template <int kHeads, int kParts>
    static void add_columns(int64_t dim, const Unit* weights, const Item* const (&rows)[kTurnTokens], float* sums,
                            int64_t sums_stride) {
        F32 total[kHeads][kParts][2];
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 16
            for (int c = 0; c < 2 * kParts; ++c)
                total[h][c / 2][c % 2] = load(sums + h * sums_stride + dim + c * kWidth);
#pragma GCC unroll 8
        for (int t = 0; t < kTurnTokens; t += kNumbers) {
            Vector weight[kHeads];
#pragma GCC unroll 8
            for (int h = 0; h < kHeads; ++h) weight[h] = broadcast_unit(weights + h * kTileTokens + t / kNumbers);
#pragma GCC unroll 8
            for (int c = 0; c < kParts; ++c) {
                const auto even = (__m512i)load_pairs(rows[t] + dim + c * kPairDims);
                const auto odd = (__m512i)load_pairs(rows[t + 1] + dim + c * kPairDims);
                const auto low = (Vector)_mm512_unpacklo_epi16(even, odd), high = (Vector)_mm512_unpackhi_epi16(even, odd);
#pragma GCC unroll 8
                for (int h = 0; h < kHeads; ++h) {
                    total[h][c][0] = add_products(total[h][c][0], weight[h], low);
                    total[h][c][1] = add_products(total[h][c][1], weight[h], high);
                }
            }
        }
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 16
            for (int c = 0; c < 2 * kParts; ++c)
                store(sums + h * sums_stride + dim + c * kWidth, total[h][c / 2][c % 2]);
    }

    // The same for all columns from `dim` on, as many at a time as fit in registers.
    template <int kHeads, int kParts>
    static void add_values_from(int64_t dim, const Unit* weights, const Item* const (&rows)[kTurnTokens], int64_t head_dim,
                                float* sums, int64_t sums_stride) {
        for (; dim + kParts * kPairDims <= head_dim; dim += kParts * kPairDims)
            add_columns<kHeads, kParts>(dim, weights, rows, sums, sums_stride);
        if constexpr (kParts > 1)
            add_values_from<kHeads, kParts / 2>(dim, weights, rows, head_dim, sums, sums_stride);
    }
};

}  // namespace octavo::OCTAVO_ISA
