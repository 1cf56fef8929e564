// Activations rounded to bf16 for a product. Include in .isa.cc files only.
#pragma once

#include "linear.h"
#include "linear_tiles.h"
#include "simd_bf16.h"

namespace octavo::OCTAVO_ISA {

struct RoundedRows {
    int64_t num_rows;
    int64_t stride;           // from one row to the next: an odd number of cache lines, as in quantized_rows.cc
    const Bf16Input* values;  // [num_rows, stride]; zero from in_features to the padded size
};

inline void round_row(const float* x, int64_t size, int64_t padded_size, Bf16Input* values) {
    const int64_t whole = size / kWidth * kWidth;
    for (int64_t k = 0; k < whole; k += kWidth) store_input(values + k, load(x + k));
    if (whole < size) store_input(values + whole, load_first(x + whole, static_cast<int>(size - whole)));
    for (int64_t k = size; k < padded_size; ++k) values[k] = 0;
}

// Round all rows of args.x and fill them up with zeros to `padded_size`, which ends in the cache line of the last
// feature. The result is scratch space of this thread.
inline RoundedRows round_rows(const LinearArgs& args, int64_t padded_size) {
    // Fewer numbers than this are not worth another thread.
    constexpr int64_t kNumbersATask = 8192;
    constexpr int64_t kValuesALine = 64 / sizeof(Bf16Input);
    const int64_t size = args.weight->in_features();
    const int64_t stride = (divide_up(size, kValuesALine) | 1) * kValuesALine;
    auto* values = static_cast<Bf16Input*>(scratch(args.num_rows * stride * sizeof(Bf16Input)));
    const int64_t rows_a_task = kNumbersATask / (size + 1) + 1;
    pool().parallel_for(divide_up(args.num_rows, rows_a_task), [&](int64_t task) {
        const int64_t end = smaller((task + 1) * rows_a_task, args.num_rows);
        for (int64_t row = task * rows_a_task; row < end; ++row)
            round_row(args.x + row * args.x_stride, size, padded_size, values + row * stride);
    });
    return {args.num_rows, stride, values};
}

}  // namespace octavo::OCTAVO_ISA
