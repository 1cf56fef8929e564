// y = x Wᵀ over weights of type bf16_pairs: x is rounded to bf16, sums are fp32.
#pragma once

#include "linear.h"

namespace octavo {

void bf16_linear(const LinearArgs& args);

}  // namespace octavo
