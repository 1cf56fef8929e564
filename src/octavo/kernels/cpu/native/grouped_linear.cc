#include "grouped_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_VNNI_OR_TILES(void, grouped_linear, (const GroupedLinearArgs& args), (args), args.x.num_rows > kFewRows)

}  // namespace octavo
