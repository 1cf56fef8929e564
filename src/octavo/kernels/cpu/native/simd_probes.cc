#include "simd_probes.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, run_probe, (const ProbeArgs& args), (args))

}  // namespace octavo
