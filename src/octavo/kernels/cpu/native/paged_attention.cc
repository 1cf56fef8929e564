#include "paged_attention.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, paged_attention, (const PagedAttentionArgs& args), (args))

}  // namespace octavo
