// How fast this machine multiplies bf16 numbers at best: the limit beside which benchmarks set the kernels.
#pragma once

#include <cstdint>

namespace octavo {

// Run `steps` steps of products of bf16 numbers with sums in fp32 on every thread, all operands in registers. Returns the
// number of operations, a multiplication and an addition counting as two.
int64_t multiply_bf16(int64_t steps);

}  // namespace octavo
