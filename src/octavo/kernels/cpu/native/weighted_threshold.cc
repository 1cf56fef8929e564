#include "weighted_threshold.h"

#include <algorithm>

namespace octavo {

namespace {

constexpr int kBuckets = 512;
constexpr int64_t kSortBelow = 48;

float threshold_by_sorting(Weighted* items, int64_t count, double reached, double target) {
    std::sort(items, items + count, [](const Weighted& a, const Weighted& b) { return a.value > b.value; });
    for (int64_t i = 0; i < count; ++i) {
        reached += items[i].weight;
        if (reached >= target) return items[i].value;
    }
    return items[count - 1].value;
}

}  // namespace

float weighted_threshold(Weighted* items, int64_t count, double target) {
    double reached = 0;  // by what is above the items that are left
    while (count > kSortBelow) {
        float low = items[0].value, high = low;
        for (int64_t i = 1; i < count; ++i) {
            low = std::min(low, items[i].value);
            high = std::max(high, items[i].value);
        }
        if (low == high) return low;
        // In double, where the difference of two floats does not overflow. Rounding keeps the order.
        const double scale = (kBuckets - 1) / (static_cast<double>(high) - low);
        const auto bucket_of = [&](float value) {
            return static_cast<int>((static_cast<double>(high) - value) * scale);
        };
        double weights[kBuckets] = {};
        for (int64_t i = 0; i < count; ++i) weights[bucket_of(items[i].value)] += items[i].weight;
        int chosen = 0;
        while (chosen < kBuckets - 1 && reached + weights[chosen] < target) reached += weights[chosen++];
        int64_t num_left = 0;
        for (int64_t i = 0; i < count; ++i)
            if (bucket_of(items[i].value) == chosen) items[num_left++] = items[i];
        if (num_left == 0) return low;  // even all of them do not reach the target, by rounding of sums
        count = num_left;
    }
    return threshold_by_sorting(items, count, reached, target);
}

}  // namespace octavo
