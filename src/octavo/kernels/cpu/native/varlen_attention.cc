#include "varlen_attention.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, varlen_attention, (const VarlenAttentionArgs& args), (args))

}  // namespace octavo
