#include "int4_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_VNNI(void, int4_linear, (const Int4LinearArgs& args), (args))

}  // namespace octavo
