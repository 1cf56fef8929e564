#include "weight_rounding.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, round_to_int8, (const DenseWeight& weight, int8_t* values, float* scales),
                (weight, values, scales))
OCTAVO_DISPATCH(void, round_to_int4, (const DenseWeight& weight, int64_t group_size, uint8_t* values, uint16_t* scales),
                (weight, group_size, values, scales))

}  // namespace octavo
