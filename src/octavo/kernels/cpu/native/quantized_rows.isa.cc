// quantized_rows.h for one instruction set.

#include "quantized_rows.h"

#include "kernel.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr float kLargestValue = 127.0f;
constexpr float kLargestFloat = 3.40282347e38f;
// Fewer numbers than this are not worth another thread.
constexpr int64_t kNumbersATask = 8192;

int lanes_at(int64_t size, int64_t k) { return size - k < kWidth ? static_cast<int>(size - k) : kWidth; }
F32 load_at(const float* x, int64_t size, int64_t k) {
    return size - k < kWidth ? load_first(x + k, lanes_at(size, k)) : load(x + k);
}

// The largest magnitude of `size` numbers; not finite if one of them is not.
float largest_magnitude(const float* x, int64_t size) {
    F32 largest = zero(), poison = zero();
    for (int64_t k = 0; k < size; k += kWidth) {
        const F32 v = load_at(x, size, k);
        largest = max(largest, max(v, zero() - v));
        poison = fma(v, zero(), poison);  // zero, but NaN once there was a NaN or an infinity
    }
    return max_lane(largest) + sum(poison);
}

// The values of features [first, first + kFeaturesAUnit), and their sum.
int32_t quantize_unit(const float* x, int64_t size, int64_t first, float inverse, int8_t* values) {
    F32 total = zero();
    for (int64_t k = first; k < first + kFeaturesAUnit && k < size; k += kWidth) {
        const F32 rounded = round_to_even(load_at(x, size, k) * broadcast(inverse));
        total = total + rounded;
        store_int8(values + k, rounded);
    }
    return static_cast<int32_t>(sum(total));
}

void quantize_group(const float* x, int64_t size, int8_t* values, float* scale, int32_t* negated_sum) {
    const float largest = largest_magnitude(x, size);
    const bool is_finite = largest <= kLargestFloat;
    float inverse = is_finite && largest > 0 ? kLargestValue / largest : 0.0f;
    *scale = largest / kLargestValue;
    if (inverse > kLargestFloat) {  // too small a group for its scale to have an inverse
        inverse = kLargestFloat;
        *scale = 1.0f / kLargestFloat;
    }
    int32_t total = 0;
    if (is_finite)
        for (int64_t k = 0; k < size; k += kFeaturesAUnit) total -= quantize_unit(x, size, k, inverse, values);
    else
        for (int64_t k = 0; k < size; ++k) values[k] = 0;
    *negated_sum = total;
}

void quantize_row(const float* x, const QuantizedRows& rows, int64_t row) {
    int8_t* values = rows.values + row * rows.stride;
    for (int64_t k = rows.size / kWidth * kWidth; k < rows.stride; ++k) values[k] = 0;
    for (int64_t group = 0; group < rows.num_groups; ++group) {
        const int64_t first = group * rows.group_size, rest = rows.size - first;
        const int64_t cell = group * rows.num_rows + row;
        quantize_group(x + first, rest < rows.group_size ? rest : rows.group_size, values + first, rows.scales + cell,
                       rows.negated_sums + cell);
    }
}

}  // namespace

void quantize_rows(const float* x, int64_t x_stride, const QuantizedRows& rows) {
    const int64_t rows_a_task = kNumbersATask / (rows.size + 1) + 1;
    pool().parallel_for((rows.num_rows + rows_a_task - 1) / rows_a_task, [&](int64_t task) {
        const int64_t end = (task + 1) * rows_a_task < rows.num_rows ? (task + 1) * rows_a_task : rows.num_rows;
        for (int64_t row = task * rows_a_task; row < end; ++row) quantize_row(x + row * x_stride, rows, row);
    });
}

}  // namespace octavo::OCTAVO_ISA
