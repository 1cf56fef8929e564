// Scales and offsets of the groups of a weight, in either type that they are stored in. Include in .isa.cc files only.
#pragma once

#include "simd.h"

namespace octavo::OCTAVO_ISA {

inline F32 load_scale(const float* p) { return load(p); }
inline F32 load_scale(const uint16_t* p) { return load_f16(p); }

}  // namespace octavo::OCTAVO_ISA
