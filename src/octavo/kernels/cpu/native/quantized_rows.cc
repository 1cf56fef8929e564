#include "quantized_rows.h"

#include "kernel.h"

namespace octavo {

namespace {

// An odd number of cache lines: rows that are a power of two apart would fight for the same cache sets.
int64_t row_stride(int64_t size) { return ((size + 63) / 64 | 1) * 64; }

int64_t groups_of(int64_t size, int64_t group_size) { return (size + group_size - 1) / group_size; }

}  // namespace

QuantizedRows::QuantizedRows(void* buffer, int64_t num_rows, int64_t size)
    : num_rows(num_rows), size(size), stride(row_stride(size)), values(static_cast<int8_t*>(buffer)) {
    scales = reinterpret_cast<float*>(values + num_rows * stride);
    negated_sums = reinterpret_cast<int32_t*>(scales + num_rows);
    int32_t* next = negated_sums + num_rows;
    for (int i = 0; i < kNumGroupSizes; ++i) {
        num_groups[i] = groups_of(size, kGroupSizes[i]);
        negated_group_sums[i] = next;
        next += num_rows * num_groups[i];
    }
}

std::size_t QuantizedRows::num_bytes(int64_t num_rows, int64_t size) {
    int64_t words = 2;
    for (int64_t group_size : kGroupSizes) words += groups_of(size, group_size);
    return static_cast<std::size_t>(num_rows * (row_stride(size) + words * 4));
}

OCTAVO_DISPATCH(void, quantize_rows, (const float* x, int64_t x_stride, const QuantizedRows& rows), (x, x_stride, rows))

}  // namespace octavo
