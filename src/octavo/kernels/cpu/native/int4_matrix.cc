#include "int4_matrix.h"

#include <algorithm>
#include <cstring>

#include "thread_pool.h"

namespace octavo {

namespace {

constexpr int64_t kBytesAColumn = 4;  // in a line

}  // namespace

Int4Matrix::Int4Matrix(int64_t out_features, int64_t in_features, int64_t group_size, ScaleType scale_type,
                       bool has_zeros, bool gated)
    : panels_{out_features, gated},
      in_features_(in_features),
      group_size_(group_size),
      num_groups_(in_features / group_size),
      scale_type_(scale_type),
      has_zeros_(has_zeros),
      buffer_(static_cast<std::size_t>(panels_.count()) * panel_bytes()) {}

Int4Matrix::Cells Int4Matrix::cells_of(int64_t row, int64_t group) const {
    const auto [panel, column] = panels_.find(row);
    uint8_t* block = static_cast<uint8_t*>(buffer_.data()) + panel * panel_bytes() + group * block_bytes();
    return {block + column * (scales_bytes() / kPanelColumns), block + scales_bytes() + column * 2,
            block + scales_bytes() + zeros_bytes() + column * kBytesAColumn};
}

void Int4Matrix::fill(const uint8_t* values, const void* scales, const uint8_t* zeros, int64_t first,
                      int64_t num_rows) {
    const int64_t scale_bytes = scales_bytes() / kPanelColumns, lines = group_size_ / kFeaturesALine;
    pool().parallel_for((num_rows + kPanelColumns - 1) / kPanelColumns, [&](int64_t chunk) {
        const int64_t begin = chunk * kPanelColumns, end = std::min(begin + kPanelColumns, num_rows);
        for (int64_t group = 0; group < num_groups_; ++group) {
            for (int64_t row = begin; row < end; ++row) {
                const int64_t cell = row * num_groups_ + group;
                const Cells cells = cells_of(first + row, group);
                std::memcpy(cells.scale, static_cast<const char*>(scales) + cell * scale_bytes, scale_bytes);
                if (has_zeros_) cells.zero[0] = zeros[cell];
                const uint8_t* from = values + cell * group_size_ / 2;
                for (int64_t line = 0; line < lines; ++line) {
                    // Four bytes with features 01, 23, 45, 67 become 04, 15, 26, 37.
                    uint8_t* to = cells.bytes + line * kLineBytes;
                    const uint8_t* pairs = from + line * kBytesAColumn;
                    for (int i = 0; i < 2; ++i) {
                        to[2 * i] = (pairs[i] & 15) | (pairs[i + 2] & 15) << 4;
                        to[2 * i + 1] = pairs[i] >> 4 | (pairs[i + 2] & 0xf0);
                    }
                }
            }
        }
    });
}

void Int4Matrix::read(int64_t first, int64_t num_rows, uint8_t* values, void* scales, uint8_t* zeros) const {
    const int64_t scale_bytes = scales_bytes() / kPanelColumns, lines = group_size_ / kFeaturesALine;
    pool().parallel_for(num_rows, [&](int64_t row) {
        for (int64_t group = 0; group < num_groups_; ++group) {
            const int64_t cell = row * num_groups_ + group;
            const Cells cells = cells_of(first + row, group);
            std::memcpy(static_cast<char*>(scales) + cell * scale_bytes, cells.scale, scale_bytes);
            if (has_zeros_) zeros[cell] = cells.zero[0];
            for (int64_t line = 0; line < lines; ++line) {
                const uint8_t* from = cells.bytes + line * kLineBytes;
                uint8_t* pairs = values + cell * group_size_ / 2 + line * kBytesAColumn;
                for (int i = 0; i < 2; ++i) {
                    pairs[i] = (from[2 * i] & 15) | (from[2 * i + 1] & 15) << 4;
                    pairs[i + 2] = from[2 * i] >> 4 | (from[2 * i + 1] & 0xf0);
                }
            }
        }
    });
}

}  // namespace octavo
