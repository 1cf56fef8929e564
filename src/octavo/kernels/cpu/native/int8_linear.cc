#include "int8_linear.h"

#include "kernel.h"

namespace octavo {

namespace {

// So few rows wait for their weights from memory, and vectors wait no longer than tiles.
constexpr int64_t kFewRows = 8;

}  // namespace

OCTAVO_DISPATCH_VNNI_OR_TILES(void, int8_linear, (const Int8LinearArgs& args), (args), args.x.num_rows > kFewRows)

}  // namespace octavo
