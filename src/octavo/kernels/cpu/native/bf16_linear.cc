#include "bf16_linear.h"

#include "kernel.h"

namespace octavo {

// The order of the sums is that of tiles, for one row as for many.
OCTAVO_DISPATCH_PRODUCT(avx512_bf16, void, bf16_linear, (const LinearArgs& args), (args), true)

}  // namespace octavo
