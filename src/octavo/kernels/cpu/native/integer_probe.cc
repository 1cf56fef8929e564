#include "integer_probe.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_PRODUCT(avx512_vnni, int64_t, multiply_int8, (int64_t steps), (steps), true)

}  // namespace octavo
