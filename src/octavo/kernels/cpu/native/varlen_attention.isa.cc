// varlen_attention.h for one instruction set.
//
// A thread takes one head of one sequence. It turns the keys around, so that lanes are keys while scores are computed, and
// gathers the values, so that lanes are dimensions while they are summed. A few queries at a time share what is loaded.

#include "varlen_attention.h"

#include <limits>

#include "aligned_buffer.h"
#include "kernel.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kQueries = 4;
constexpr int kVectors = 2;
constexpr int64_t kStep = kVectors * kWidth;

int64_t rounded(int64_t n) { return (n + kStep - 1) / kStep * kStep; }

// One head of one sequence in a thread's scratch space. Lengths are rounded up to whole steps; what is beyond is zero.
struct Head {
    int64_t length, padded_length, dim, padded_dim;
    float* keys;    // [dim, padded_length]
    float* values;  // [length, padded_dim]
    float* scores;  // [kQueries, padded_length]

    Head(int64_t length, int64_t dim, float* area)
        : length(length), padded_length(rounded(length)), dim(dim), padded_dim(rounded(dim)), keys(area),
          values(keys + dim * padded_length), scores(values + length * padded_dim) {}

    static int64_t floats(int64_t length, int64_t dim) {
        return (dim + kQueries) * rounded(length) + length * rounded(dim);
    }

    void gather(const float* key, const float* value, int64_t stride) {
        for (int64_t d = 0; d < dim; ++d)
            for (int64_t j = length; j < padded_length; ++j) keys[d * padded_length + j] = 0.0f;
        for (int64_t j = 0; j < length; ++j) {
            for (int64_t d = 0; d < dim; ++d) keys[d * padded_length + j] = key[j * stride + d];
            for (int64_t d = 0; d < dim; ++d) values[j * padded_dim + d] = value[j * stride + d];
            for (int64_t d = dim; d < padded_dim; ++d) values[j * padded_dim + d] = 0.0f;
        }
    }
};

template <int kRows>
void score(const Head& head, const float* query, int64_t stride, float scale) {
    for (int64_t first = 0; first < head.padded_length; first += kStep) {
        F32 sums[kRows][kVectors];
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sums[r][v] = zero();
        for (int64_t d = 0; d < head.dim; ++d) {
            const float* keys = head.keys + d * head.padded_length + first;
            F32 key[kVectors];
            for (int v = 0; v < kVectors; ++v) key[v] = load(keys + v * kWidth);
            for (int r = 0; r < kRows; ++r) {
                const F32 value = broadcast(query[r * stride + d]);
                for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(value, key[v], sums[r][v]);
            }
        }
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v)
                store(head.scores + r * head.padded_length + first + v * kWidth, sums[r][v] * broadcast(scale));
    }
}

// Replace a row of scores by its exponentials, relative to the largest; returns 1 / their sum.
float exponentiate(const Head& head, float* row) {
    const float nothing = -std::numeric_limits<float>::infinity();
    for (int64_t j = head.length; j < head.padded_length; ++j) row[j] = nothing;
    F32 largest = broadcast(nothing);
    for (int64_t j = 0; j < head.padded_length; j += kWidth) largest = max(load(row + j), largest);
    const F32 shift = broadcast(max_lane(largest));
    F32 total = zero();
    for (int64_t j = 0; j < head.padded_length; j += kWidth) {
        const F32 weight = exp(load(row + j) - shift);
        store(row + j, weight);
        total = total + weight;
    }
    return 1.0f / sum(total);
}

template <int kRows>
void attend(const Head& head, const float* query, int64_t stride, float scale, float* output, int64_t output_stride) {
    score<kRows>(head, query, stride, scale);
    float factors[kRows];
    for (int r = 0; r < kRows; ++r) factors[r] = exponentiate(head, head.scores + r * head.padded_length);
    for (int64_t first = 0; first < head.dim; first += kStep) {
        F32 sums[kRows][kVectors];
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sums[r][v] = zero();
        for (int64_t j = 0; j < head.length; ++j) {
            const float* values = head.values + j * head.padded_dim + first;
            F32 value[kVectors];
            for (int v = 0; v < kVectors; ++v) value[v] = load(values + v * kWidth);
            for (int r = 0; r < kRows; ++r) {
                const F32 weight = broadcast(head.scores[r * head.padded_length + j]);
                for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(weight, value[v], sums[r][v]);
            }
        }
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) {
                const int64_t d = first + v * kWidth, left = head.dim - d;
                if (left > 0)
                    store_first(output + r * output_stride + d, sums[r][v] * broadcast(factors[r]),
                                static_cast<int>(left < kWidth ? left : kWidth));
            }
    }
}

}  // namespace

void varlen_attention(const VarlenAttentionArgs& args) {
    int64_t longest = 0;
    for (int64_t i = 0; i < args.num_seqs; ++i) {
        const int64_t length = args.starts[i + 1] - args.starts[i];
        longest = length > longest ? length : longest;
    }
    if (longest == 0) return;
    const int64_t hidden = args.num_heads * args.head_dim;
    const int64_t area = Head::floats(longest, args.head_dim);
    auto* areas = static_cast<float*>(scratch(pool().num_threads() * area * sizeof(float)));
    // The last sequences first: they may be the longest, and what is taken last should be short.
    pool().parallel_for(args.num_seqs * args.num_heads, [&](int64_t task, int thread) {
        const int64_t sequence = args.num_seqs - 1 - task / args.num_heads;
        const int64_t start = args.starts[sequence], length = args.starts[sequence + 1] - start;
        const int64_t column = task % args.num_heads * args.head_dim;
        const float* query = args.qkv + start * args.qkv_stride + column;
        float* output = args.output + start * hidden + column;
        Head head(length, args.head_dim, areas + thread * area);
        head.gather(query + hidden, query + 2 * hidden, args.qkv_stride);
        int64_t row = 0;
        for (; row + kQueries <= length; row += kQueries)
            attend<kQueries>(head, query + row * args.qkv_stride, args.qkv_stride, args.scale, output + row * hidden,
                             hidden);
        for (; row < length; ++row)
            attend<1>(head, query + row * args.qkv_stride, args.qkv_stride, args.scale, output + row * hidden, hidden);
    });
}

}  // namespace octavo::OCTAVO_ISA
