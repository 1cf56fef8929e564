#include "bf16_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_BF16(void, bf16_linear, (const LinearArgs& args), (args))

}  // namespace octavo
