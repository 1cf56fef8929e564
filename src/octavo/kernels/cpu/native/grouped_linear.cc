#include "grouped_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_VNNI(void, grouped_linear, (const GroupedLinearArgs& args), (args))

}  // namespace octavo
