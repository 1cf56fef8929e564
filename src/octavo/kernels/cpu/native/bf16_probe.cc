#include "bf16_probe.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_PRODUCT(avx512_bf16, int64_t, multiply_bf16, (int64_t steps), (steps), true)

}  // namespace octavo
