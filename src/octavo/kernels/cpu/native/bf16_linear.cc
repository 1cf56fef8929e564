#include "bf16_linear.h"

#include "kernel.h"

namespace octavo {

// The order of the sums is that of tiles, for one row as for many.
OCTAVO_DISPATCH_BF16_OR_TILES(void, bf16_linear, (const LinearArgs& args), (args), true)

}  // namespace octavo
