#include "quantized_rows.h"

#include "kernel.h"

namespace octavo {

namespace {

// An odd number of cache lines: rows that are a power of two apart would fight for the same cache sets.
int64_t row_stride(int64_t size) { return ((size + 63) / 64 | 1) * 64; }

int64_t groups_of(int64_t size, int64_t group_size) {
    return size ? (size + group_size - 1) / group_size : 1;
}

}  // namespace

QuantizedRows::QuantizedRows(void* buffer, int64_t num_rows, int64_t size, int64_t group_size)
    : num_rows(num_rows),
      size(size),
      group_size(group_size),
      num_groups(groups_of(size, group_size)),
      stride(row_stride(size)),
      values(static_cast<int8_t*>(buffer)),
      scales(reinterpret_cast<float*>(values + num_rows * stride)),
      negated_sums(reinterpret_cast<int32_t*>(scales + num_groups * num_rows)) {}

std::size_t QuantizedRows::num_bytes(int64_t num_rows, int64_t size, int64_t group_size) {
    return static_cast<std::size_t>(num_rows * (row_stride(size) + 8 * groups_of(size, group_size)));
}

OCTAVO_DISPATCH(void, quantize_rows, (const float* x, int64_t x_stride, const QuantizedRows& rows), (x, x_stride, rows))

}  // namespace octavo
