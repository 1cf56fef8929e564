#include "grouped_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_PRODUCT(avx512_vnni, void, grouped_linear, (const GroupedLinearArgs& args), (args),
                        args.x.num_rows > kFewRows)

}  // namespace octavo
