// Selection without a sort.
#pragma once

#include <cstdint>

namespace octavo {

struct Weighted {
    float value;
    float weight;
};

// The greatest value with which the sum of the weights of all that are at least as great reaches `target`; the least
// value if all together do not reach it. Items are reordered. There must be at least one, and no NaN or infinity.
float weighted_threshold(Weighted* items, int64_t count, double target);

}  // namespace octavo
