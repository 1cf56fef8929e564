// Where the rows of a packed weight lie: panels of 32 output columns, in all formats of numbers.
//
// A gated weight is [gate; up] (merged rows of both projections). Its panel p has columns 16p … 16p + 15 of the gate in the
// first half and the same columns of up in the second, so that silu(gate) * up is computed in registers.
#pragma once

#include <cstdint>

namespace octavo {

constexpr int64_t kPanelColumns = 32;
constexpr int64_t kHalfPanel = kPanelColumns / 2;

struct PanelPosition {
    int64_t panel, column;
};

struct Panels {
    int64_t out_features;
    bool gated;

    int64_t count() const;

    // Where row `row` of W, which is a column of the product, lies.
    PanelPosition find(int64_t row) const;

    // Throws std::out_of_range if an id is not a row of W.
    void check(const int64_t* row_ids, int64_t num_ids) const;
};

}  // namespace octavo
