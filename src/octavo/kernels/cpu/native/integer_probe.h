// How fast this machine multiplies whole numbers at best: the limit beside which benchmarks set the kernels.
#pragma once

#include <cstdint>

namespace octavo {

// Run `steps` steps of products of int8 numbers on every thread, all operands in registers. Returns the number of
// operations, a multiplication and an addition counting as two.
int64_t multiply_int8(int64_t steps);

}  // namespace octavo
