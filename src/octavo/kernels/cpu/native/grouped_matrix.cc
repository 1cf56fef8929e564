#include "grouped_matrix.h"

#include <algorithm>
#include <cstring>

#include "lines.h"
#include "thread_pool.h"

namespace octavo {

namespace {

// Four bytes of pairs of features 01, 23, 45, 67 become 04, 15, 26, 37; the first of each is in the low half.
uint32_t to_line(uint32_t pairs) {
    const uint32_t even = pairs & 0x0f0f0f0f, odd = pairs >> 4 & 0x0f0f0f0f;  // 0, 2, 4, 6 and 1, 3, 5, 7: a byte each
    const uint32_t low = (even & 0xff) | (odd & 0xff) << 8 | (even & 0xff00) << 8 | (odd & 0xff00) << 16;
    const uint32_t high = (even >> 16 & 0xff) | (odd >> 16 & 0xff) << 8 | (even >> 24) << 16 | (odd >> 24) << 24;
    return low | high << 4;
}

void from_line(const uint8_t* line, uint8_t* pairs) {
    for (int i = 0; i < 2; ++i) {
        pairs[i] = (line[2 * i] & 15) | (line[2 * i + 1] & 15) << 4;
        pairs[i + 2] = line[2 * i] >> 4 | (line[2 * i + 1] & 0xf0);
    }
}

}  // namespace

GroupedMatrix::GroupedMatrix(int64_t out_features, int64_t in_features, const GroupedFormat& format, bool gated)
    : panels_{out_features, gated},
      format_(format),
      in_features_(in_features),
      num_groups_(in_features / format.group_size),
      buffer_(static_cast<std::size_t>(panels_.count()) * panel_bytes()) {}

GroupedMatrix::Cells GroupedMatrix::cells_of(int64_t row, int64_t group) const {
    const auto [panel, column] = panels_.find(row);
    uint8_t* block = static_cast<uint8_t*>(buffer_.data()) + panel * panel_bytes() + group * block_bytes();
    return {block + column * format_.scale_bytes(), block + scales_bytes() + column * format_.shift_bytes(),
            block + lines_offset() + column * kBytesAColumn};
}

void GroupedMatrix::fill(const uint8_t* values, const void* scales, const void* shifts, int64_t first,
                         int64_t num_rows) {
    const int64_t scale_bytes = format_.scale_bytes(), group_bytes = format_.group_bytes();
    const int64_t shift_bytes = format_.shift == Shift::zeros ? 1 : format_.shift_bytes();  // as they come
    const int64_t row_bytes = num_groups_ * group_bytes, num_lines = group_bytes / kBytesAColumn;
    pool().parallel_for((num_rows + kPanelColumns - 1) / kPanelColumns, [&](int64_t chunk) {
        const int64_t begin = first + chunk * kPanelColumns, end = std::min(begin + kPanelColumns, first + num_rows);
        for (int64_t group = 0; group < num_groups_; ++group) {
            for (int64_t row = begin; row < end; ++row) {
                const int64_t cell = (row - first) * num_groups_ + group;
                const Cells cells = cells_of(row, group);
                std::memcpy(cells.scale, static_cast<const char*>(scales) + cell * scale_bytes, scale_bytes);
                if (shift_bytes)
                    std::memcpy(cells.shift, static_cast<const char*>(shifts) + cell * shift_bytes, shift_bytes);
            }
            for_rows_by_four(panels_, begin, end, [&](int64_t row, auto num_rows) {
                const uint8_t* from = values + (row - first) * row_bytes + group * group_bytes;
                const auto get = [&](int i, int64_t line) {
                    return load_number<uint32_t>(from + i * row_bytes + line * kBytesAColumn);
                };
                uint8_t* to = cells_of(row, group).bytes;
                if (format_.bits == 4)
                    write_lines<num_rows>(0, num_lines, to, kLineBytes,
                                          [&](int i, int64_t line) { return to_line(get(i, line)); });
                else
                    write_lines<num_rows>(0, num_lines, to, kLineBytes, get);
            });
        }
    });
}

void GroupedMatrix::read(int64_t first, int64_t num_rows, uint8_t* values, void* scales, void* shifts) const {
    pool().parallel_for(num_rows, [&](int64_t row) { read_row(first + row, row, values, scales, shifts); });
}

void GroupedMatrix::gather(const int64_t* row_ids, int64_t num_ids, uint8_t* values, void* scales,
                           void* shifts) const {
    panels_.check(row_ids, num_ids);
    pool().parallel_for(num_ids, [&](int64_t i) { read_row(row_ids[i], i, values, scales, shifts); });
}

void GroupedMatrix::read_row(int64_t row, int64_t to_row, uint8_t* values, void* scales, void* shifts) const {
    const int64_t scale_bytes = format_.scale_bytes(), group_bytes = format_.group_bytes();
    const int64_t shift_bytes = format_.shift == Shift::zeros ? 1 : format_.shift_bytes();
    for (int64_t group = 0; group < num_groups_; ++group) {
        const int64_t cell = to_row * num_groups_ + group;
        const Cells cells = cells_of(row, group);
        std::memcpy(static_cast<char*>(scales) + cell * scale_bytes, cells.scale, scale_bytes);
        if (shift_bytes) std::memcpy(static_cast<char*>(shifts) + cell * shift_bytes, cells.shift, shift_bytes);
        const uint8_t* from = cells.bytes;
        uint8_t* to = values + cell * group_bytes;
        for (int64_t byte = 0; byte < group_bytes; byte += kBytesAColumn, from += kLineBytes) {
            if (format_.bits == 4)
                from_line(from, to + byte);
            else
                std::memcpy(to + byte, from, kBytesAColumn);
        }
    }
}

}  // namespace octavo
