// How packed weights are filled: rows become the columns of lines. A row has one cell in each line, of a number or a few.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "panels.h"

namespace octavo {

// Write get(row, line) to as many columns side by side as there are rows, for lines [begin, end). `to` is the first of the
// columns in line 0.
template <int kRows, typename Get>
void write_lines(int64_t begin, int64_t end, uint8_t* to, int64_t line_bytes, Get get) {
    for (int64_t line = begin; line < end; ++line) {
        decltype(get(0, line)) cells[kRows];
        for (int row = 0; row < kRows; ++row) cells[row] = get(row, line);
        std::memcpy(to + line * line_bytes, cells, sizeof cells);
    }
}

template <typename Number>
Number load_number(const uint8_t* from) {
    Number number;
    std::memcpy(&number, from, sizeof number);
    return number;
}

// Call copy(row, number) for rows that have columns side by side, `number` of them, which is a constant: 4, or 1 where four
// are not to be had.
template <typename Copy>
void for_rows_by_four(const Panels& panels, int64_t begin, int64_t end, Copy copy) {
    for (int64_t row = begin; row < end;) {
        const PanelPosition first = panels.find(row), last = panels.find(row + 3 < end ? row + 3 : row);
        if (first.panel == last.panel && first.column + 3 == last.column) {
            copy(row, std::integral_constant<int, 4>());
            row += 4;
        } else {
            copy(row, std::integral_constant<int, 1>());
            row += 1;
        }
    }
}

}  // namespace octavo
