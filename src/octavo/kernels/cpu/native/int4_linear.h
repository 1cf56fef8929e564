// y = x Wᵀ over int4 weights with a scale for each group of features: the sums of a group are whole numbers, and the
// groups are added up in fp32, in order.
#pragma once

#include "int4_matrix.h"
#include "linear_output.h"
#include "quantized_rows.h"

namespace octavo {

struct Int4LinearArgs {
    const Int4Matrix* weight;
    QuantizedRows x;
    LinearOutput output;
};

void int4_linear(const Int4LinearArgs& args);

}  // namespace octavo
