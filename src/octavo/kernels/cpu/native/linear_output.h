// What follows the product in a linear layer: plain arguments, the same for all formats of weights.
#pragma once

#include <cstdint>

namespace octavo {

// Strides are in elements; the last dimension of each array is contiguous.
struct LinearOutput {
    float* y;  // [num_rows, out_features], or for a gated weight [num_rows, out_features / 2]: silu(gate) * up
    int64_t y_stride;
    const float* bias;      // [out_features], or null
    const float* residual;  // [num_rows, out_features], added before a gate; without one it may be y itself; or null
    int64_t residual_stride;
};

}  // namespace octavo
