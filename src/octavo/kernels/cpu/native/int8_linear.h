// y = x Wᵀ over int8 weights: whole numbers are multiplied, and their sums scaled afterwards.
#pragma once

#include "int8_matrix.h"
#include "linear_output.h"
#include "quantized_rows.h"

namespace octavo {

struct Int8LinearArgs {
    const Int8Matrix* weight;
    QuantizedRows x;
    LinearOutput output;
};

void int8_linear(const Int8LinearArgs& args);

}  // namespace octavo
