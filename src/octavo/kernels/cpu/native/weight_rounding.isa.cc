// weight_rounding.h for one instruction set. Compiled without contraction of products and sums: every operation is
// rounded by itself, as in torch.

#include "weight_rounding.h"

#include "kernel.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr float kLargestInt8 = 127.0f;
constexpr float kSmallestInt4 = -8.0f, kLargestInt4 = 7.0f;
constexpr uint8_t kInt4Zero = 8;
constexpr float kInfinity = __builtin_inff();
// Where the entry of a group with the largest magnitude is put: the grid grows or shrinks around the others.
constexpr float kSearchedEnds[] = {-8.0f, -7.1f, -7.55f, -8.45f, -8.9f};

struct Fp32Numbers {
    using Item = float;
    static F32 load_numbers(const float* p) { return load(p); }
};
struct Bf16Numbers {
    using Item = uint16_t;
    static F32 load_numbers(const uint16_t* p) { return load_bf16(p); }
};
struct Fp16Numbers {
    using Item = uint16_t;
    static F32 load_numbers(const uint16_t* p) { return load_f16(p); }
};

template <typename Numbers>
const typename Numbers::Item* row_of(const DenseWeight& weight, int64_t row) {
    return static_cast<const typename Numbers::Item*>(weight.data) + row * weight.row_stride;
}

// The numbers from k on, and 0 after the last one.
template <typename Numbers>
F32 load_before(const typename Numbers::Item* row, int64_t k, int64_t end) {
    if (end - k >= kWidth) return Numbers::load_numbers(row + k);
    typename Numbers::Item rest[kWidth] = {};
    for (int64_t i = k; i < end; ++i) rest[i - k] = row[i];
    return Numbers::load_numbers(rest);
}

F32 magnitude(F32 v) { return max(v, zero() - v); }

float inverse_of(float value) {
    const float inverse = 1.0f / value;
    return inverse - inverse == 0.0f ? inverse : 0.0f;
}

template <typename Numbers>
void round_row(const DenseWeight& weight, int64_t row, int8_t* values, float* scale) {
    const auto* from = row_of<Numbers>(weight, row);
    F32 largest = zero();
    for (int64_t k = 0; k < weight.num_columns; k += kWidth)
        largest = max(largest, magnitude(load_before<Numbers>(from, k, weight.num_columns)));
    *scale = max_lane(largest) / kLargestInt8;
    const F32 inverse = broadcast(inverse_of(*scale));
    for (int64_t k = 0; k < weight.num_columns; k += kWidth) {
        const F32 whole = round_to_even(load_before<Numbers>(from, k, weight.num_columns) * inverse);
        const F32 rounded = max(broadcast(-kLargestInt8), min(broadcast(kLargestInt8), whole));
        if (weight.num_columns - k >= kWidth) {
            store_int8(values + k, rounded);
        } else {
            int8_t rest[kWidth];
            store_int8(rest, rounded);
            for (int64_t i = k; i < weight.num_columns; ++i) values[i] = rest[i - k];
        }
    }
}

// Sums of the two halves, of their halves, and so on: the order that rounding.py adds in.
template <int kVectors>
float fold(F32 (&v)[kVectors]) {
    for (int half = kVectors / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) v[i] = v[i] + v[i + half];
    return sum(v[0]);
}

// The number of the largest magnitude, the first one of several.
template <int kVectors>
float furthest_of(const F32 (&numbers)[kVectors]) {
    F32 largest = zero();
    for (int i = 0; i < kVectors; ++i) largest = max(largest, magnitude(numbers[i]));
    const float wanted = max_lane(largest);
    float flat[kVectors * kWidth];
    for (int i = 0; i < kVectors; ++i) store(flat + i * kWidth, numbers[i]);
    int first = 0;
    while (first < kVectors * kWidth - 1 && __builtin_fabsf(flat[first]) != wanted) ++first;
    return flat[first];
}

float through_f16(float value, uint16_t* bits) {
    uint16_t narrow[kWidth];
    store_f16(narrow, broadcast(value));
    *bits = narrow[0];
    float wide[kWidth];
    store(wide, load_f16(narrow));
    return wide[0];
}

template <int kVectors>
void round_group(const F32 (&numbers)[kVectors], uint8_t* bytes, uint16_t* scale) {
    const float inverse = inverse_of(furthest_of(numbers));
    float best_error = kInfinity;
    F32 best[kVectors];
    for (int i = 0; i < kVectors; ++i) best[i] = zero();
    *scale = 0;
    for (float end : kSearchedEnds) {
        const F32 factor = broadcast(end * inverse);
        F32 values[kVectors], products[kVectors], squares[kVectors];
        for (int i = 0; i < kVectors; ++i) {
            values[i] = max(broadcast(kSmallestInt4), min(broadcast(kLargestInt4), round_to_even(numbers[i] * factor)));
            products[i] = numbers[i] * values[i];
            squares[i] = values[i] * values[i];
        }
        const float length = fold(squares);
        uint16_t fitted;
        const float step = through_f16(fold(products) / (length > 1.0f ? length : 1.0f), &fitted);
        for (int i = 0; i < kVectors; ++i) {
            const F32 off = numbers[i] - values[i] * broadcast(step);
            squares[i] = off * off;
        }
        const float error = fold(squares);
        if (error < best_error) {
            best_error = error;
            *scale = fitted;
            for (int i = 0; i < kVectors; ++i) best[i] = values[i];
        }
    }
    int8_t whole[kVectors * kWidth];
    for (int i = 0; i < kVectors; ++i) store_int8(whole + i * kWidth, best[i] + broadcast(kInt4Zero));
    for (int i = 0; i < kVectors * kWidth / 2; ++i)
        bytes[i] = static_cast<uint8_t>(whole[2 * i] | whole[2 * i + 1] << 4);
}

template <typename Numbers, int kGroupSize>
void round_row_to_int4(const DenseWeight& weight, int64_t row, uint8_t* values, uint16_t* scales) {
    constexpr int kVectors = kGroupSize / kWidth;
    const auto* from = row_of<Numbers>(weight, row);
    for (int64_t group = 0; group < weight.num_columns / kGroupSize; ++group) {
        F32 numbers[kVectors];
        for (int i = 0; i < kVectors; ++i) numbers[i] = Numbers::load_numbers(from + group * kGroupSize + i * kWidth);
        round_group(numbers, values + group * kGroupSize / 2, scales + group);
    }
}

template <typename Numbers>
void round_all_to_int4(const DenseWeight& weight, int64_t group_size, uint8_t* values, uint16_t* scales) {
    auto* round = group_size == 32   ? round_row_to_int4<Numbers, 32>
                  : group_size == 64 ? round_row_to_int4<Numbers, 64>
                                     : round_row_to_int4<Numbers, 128>;
    const int64_t num_columns = weight.num_columns;
    pool().parallel_for(weight.num_rows, [&](int64_t row) {
        round(weight, row, values + row * num_columns / 2, scales + row * (num_columns / group_size));
    });
}

}  // namespace

void round_to_int8(const DenseWeight& weight, int8_t* values, float* scales) {
    auto* round = weight.type == WeightType::fp32   ? round_row<Fp32Numbers>
                  : weight.type == WeightType::fp16 ? round_row<Fp16Numbers>
                                                    : round_row<Bf16Numbers>;
    pool().parallel_for(weight.num_rows, [&](int64_t row) {
        round(weight, row, values + row * weight.num_columns, scales + row);
    });
}

void round_to_int4(const DenseWeight& weight, int64_t group_size, uint8_t* values, uint16_t* scales) {
    switch (weight.type) {
        case WeightType::fp32:
            return round_all_to_int4<Fp32Numbers>(weight, group_size, values, scales);
        case WeightType::bf16:
        case WeightType::bf16_pairs:  // the same numbers
            return round_all_to_int4<Bf16Numbers>(weight, group_size, values, scales);
        case WeightType::fp16:
            return round_all_to_int4<Fp16Numbers>(weight, group_size, values, scales);
    }
}

}  // namespace octavo::OCTAVO_ISA
