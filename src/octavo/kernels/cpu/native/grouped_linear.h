// y = x Wᵀ over int4 and int8 weights with a scale for each group of features: the sums of a group are whole numbers, and
// the groups are added up in fp32, in order.
#pragma once

#include "grouped_matrix.h"
#include "linear_output.h"
#include "quantized_rows.h"

namespace octavo {

struct GroupedLinearArgs {
    const GroupedMatrix* weight;
    QuantizedRows x;
    LinearOutput output;
};

void grouped_linear(const GroupedLinearArgs& args);

}  // namespace octavo
