#include "int8_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_VNNI(void, int8_linear, (const Int8LinearArgs& args), (args))

}  // namespace octavo
