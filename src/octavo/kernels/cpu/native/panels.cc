#include "panels.h"

#include <stdexcept>
#include <string>

namespace octavo {

int64_t Panels::count() const {
    const int64_t columns = gated ? out_features / 2 : out_features;
    const int64_t columns_a_panel = gated ? kHalfPanel : kPanelColumns;
    return (columns + columns_a_panel - 1) / columns_a_panel;
}

PanelPosition Panels::find(int64_t row) const {
    if (!gated) return {row / kPanelColumns, row % kPanelColumns};
    const int64_t half = out_features / 2, in_half = row % half;
    return {in_half / kHalfPanel, in_half % kHalfPanel + (row < half ? 0 : kHalfPanel)};
}

void Panels::check(const int64_t* row_ids, int64_t num_ids) const {
    for (int64_t i = 0; i < num_ids; ++i)
        if (row_ids[i] < 0 || row_ids[i] >= out_features)
            throw std::out_of_range("row " + std::to_string(row_ids[i]) + " of a matrix of " +
                                    std::to_string(out_features) + " rows");
}

}  // namespace octavo
