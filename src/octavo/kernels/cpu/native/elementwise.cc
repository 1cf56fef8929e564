#include "elementwise.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, rms_norm, (const RmsNormArgs& args), (args))
OCTAVO_DISPATCH(void, silu_and_mul, (const GateArgs& args), (args))
OCTAVO_DISPATCH(void, gelu_tanh_and_mul, (const GateArgs& args), (args))
OCTAVO_DISPATCH(void, rotary_write_kv, (const RotaryWriteKvArgs& args), (args))

}  // namespace octavo
