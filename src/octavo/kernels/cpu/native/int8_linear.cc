#include "int8_linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH_PRODUCT(avx512_vnni, void, int8_linear, (const Int8LinearArgs& args), (args),
                        args.x.num_rows > kFewRows)

}  // namespace octavo
