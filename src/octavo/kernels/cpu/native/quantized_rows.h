// Activations rounded to int8, each row (token) with a scale of its own: its largest magnitude becomes 127, or less if it
// is below 3.7e-37.
//
// A row with a NaN or an infinity has the scale NaN and zeros as values, so that all its results are NaN.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// A view of a buffer. Sums are negated: they take off what was added to the weights to make them unsigned.
struct QuantizedRows {
    // Sizes of the groups of features whose sums are kept: those which may share a scale in a weight.
    static constexpr int kNumGroupSizes = 3;
    static constexpr int64_t kGroupSizes[kNumGroupSizes] = {32, 64, 128};

    int64_t num_rows, size;
    int64_t stride;         // bytes from one row to the next, a multiple of 64
    int8_t* values;         // [num_rows, stride]; zero from `size` on
    float* scales;          // [num_rows]
    int32_t* negated_sums;  // [num_rows], over all features
    int64_t num_groups[kNumGroupSizes];
    int32_t* negated_group_sums[kNumGroupSizes];  // [num_rows, num_groups[i]]

    QuantizedRows(void* buffer, int64_t num_rows, int64_t size);
    // Of a buffer for so many rows; it must be aligned to 4 bytes.
    static std::size_t num_bytes(int64_t num_rows, int64_t size);
};

// Round x [rows.num_rows, rows.size], rows `x_stride` elements apart.
void quantize_rows(const float* x, int64_t x_stride, const QuantizedRows& rows);

}  // namespace octavo
