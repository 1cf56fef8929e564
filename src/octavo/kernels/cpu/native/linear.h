// y = x Wᵀ over packed weights, with what follows a linear layer computed before the result leaves the registers.
#pragma once

#include <cstdint>

#include "packed_matrix.h"

namespace octavo {

// Strides are in elements; the last dimension of each array is contiguous.
struct LinearArgs {
    const PackedMatrix* weight;
    const float* x;  // [num_rows, in_features]
    int64_t num_rows;
    int64_t x_stride;
    float* y;  // [num_rows, out_features], or for a gated weight [num_rows, out_features / 2]: silu(gate) * up
    int64_t y_stride;
    const float* bias;      // [out_features], or null
    const float* residual;  // of y's shape, added last; may be y itself; or null
    int64_t residual_stride;
};

void linear(const LinearArgs& args);

}  // namespace octavo
