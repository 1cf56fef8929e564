#include "linear.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, linear, (const LinearArgs& args), (args))

}  // namespace octavo
