#include "row_passes.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, reduce_blocks,
                (const LogitRow& row, int64_t first, int64_t end, float scale, float* maxima, float* sums),
                (row, first, end, scale, maxima, sums))
OCTAVO_DISPATCH(int64_t, collect,
                (const LogitRow& row, const float* maxima, float threshold, float* values, int32_t* token_ids),
                (row, maxima, threshold, values, token_ids))
OCTAVO_DISPATCH(void, weigh, (const float* values, int64_t count, float greatest, float scale, float* weights),
                (values, count, greatest, scale, weights))
OCTAVO_DISPATCH(int64_t, count_above, (const LogitRow& row, const float* maxima, float value), (row, maxima, value))

}  // namespace octavo
