#include "encoder_elementwise.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, layer_norm, (const LayerNormArgs& args), (args))
OCTAVO_DISPATCH(void, gelu, (const GeluArgs& args), (args))

}  // namespace octavo
