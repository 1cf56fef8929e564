// The functions of simd.h on whole arrays, so that tests can compare them with numpy; nothing else calls these.
#pragma once

#include <cstdint>

namespace octavo {

enum class Probe : int { exp, sqrt, round_to_even, through_bf16, through_f16, sum, max_lane };

// out[i] = f(x[i]). For sum and max_lane, which have one result a vector, each lane gets it. The last vector is not full
// unless num_values is a multiple of its lanes.
struct ProbeArgs {
    Probe probe;
    const float* x;
    int64_t num_values;
    float* out;
};

void run_probe(const ProbeArgs& args);

}  // namespace octavo
