// y = x Wᵀ over packed weights, with what follows a linear layer computed before the result leaves the registers.
#pragma once

#include <cstdint>

#include "linear_output.h"
#include "packed_matrix.h"

namespace octavo {

struct LinearArgs {
    const PackedMatrix* weight;
    const float* x;  // [num_rows, in_features]
    int64_t num_rows;
    int64_t x_stride;  // in elements
    LinearOutput output;
};

// Activations stay as they are; for all types of weights but bf16_pairs.
void linear(const LinearArgs& args);

}  // namespace octavo
