// From dense weights to int8 and int4: the arithmetic of models/quantization/rounding.py, to the last bit.
#pragma once

#include <cstdint>

#include "packed_matrix.h"

namespace octavo {

struct DenseWeight {
    const void* data;  // [num_rows, num_columns], rows row_stride elements apart
    WeightType type;
    int64_t num_rows, num_columns, row_stride;
};

// values [num_rows, num_columns] and scales [num_rows]: the largest magnitude of a row becomes 127.
void round_to_int8(const DenseWeight& weight, int8_t* values, float* scales);

// values [num_rows, num_columns / 2], the even column in the low half of a byte, with the zero point 8, and fp16 scales
// [num_rows, num_columns / group_size]. group_size is 32, 64 or 128 and divides num_columns.
void round_to_int4(const DenseWeight& weight, int64_t group_size, uint8_t* values, uint16_t* scales);

}  // namespace octavo
