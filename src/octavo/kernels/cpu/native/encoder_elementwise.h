// What an encoder's layer computes between its products: layer normalisation and GELU.
#pragma once

#include <cstdint>

namespace octavo {

struct LayerNormArgs {
    const float* x;         // [num_rows, size]
    const float* residual;  // of x's shape, added before; or null
    int64_t num_rows;
    int64_t size;
    const float* weight;  // [size]
    const float* bias;    // [size]
    float eps;
    float* y;  // of x's shape; may be x
};

void layer_norm(const LayerNormArgs& args);

struct GeluArgs {
    const float* x;
    int64_t count;
    float* y;  // may be x
};

void gelu(const GeluArgs& args);

}  // namespace octavo
