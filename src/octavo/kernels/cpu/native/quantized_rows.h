// Activations rounded to int8, each row (token) or each group of features of a row with a scale of its own: the largest
// magnitude of the group becomes 127, or less if it is below 3.7e-37.
//
// A group with a NaN or an infinity has the scale NaN and zeros as values, so that all results of its row are NaN.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// So few rows wait for their weights from memory, and products of vectors wait no longer than those of tiles.
constexpr int64_t kFewRows = 8;

// A view of a buffer. Sums are negated: they take off what was added to the weights to make them unsigned.
struct QuantizedRows {
    int64_t num_rows, size;
    int64_t group_size;  // features that share a scale: `size`, or a multiple of 16
    int64_t num_groups;
    int64_t stride;         // bytes from one row to the next, a multiple of 64
    int8_t* values;         // [num_rows, stride]; zero from `size` on
    float* scales;          // [num_groups, num_rows]
    int32_t* negated_sums;  // [num_groups, num_rows], of values

    QuantizedRows(void* buffer, int64_t num_rows, int64_t size, int64_t group_size);
    // Of a buffer for so many rows; it must be aligned to 4 bytes.
    static std::size_t num_bytes(int64_t num_rows, int64_t size, int64_t group_size);
};

// Round x [rows.num_rows, rows.size], rows `x_stride` elements apart.
void quantize_rows(const float* x, int64_t x_stride, const QuantizedRows& rows);

}  // namespace octavo
