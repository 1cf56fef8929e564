#include "int8_matrix.h"

#include <algorithm>
#include <cstring>

#include "lines.h"
#include "thread_pool.h"

namespace octavo {

namespace {

constexpr uint8_t kSignBit = 0x80;  // flipping it adds 128
constexpr uint32_t kSignBits = 0x80808080;

}  // namespace

Int8Matrix::Int8Matrix(int64_t out_features, int64_t in_features, bool gated)
    : panels_{out_features, gated},
      in_features_(in_features),
      num_lines_((in_features + kFeaturesAStep - 1) / kFeaturesAStep * (kFeaturesAStep / kFeaturesALine)),
      buffer_(static_cast<std::size_t>(panels_.count()) * panel_bytes()),
      scale_buffer_(static_cast<std::size_t>(panels_.count()) * kPanelColumns * sizeof(float)) {
    pool().parallel_for(in_features > 0 ? panels_.count() : 0, [&](int64_t panel) {
        std::memset(static_cast<uint8_t*>(buffer_.data()) + panel * panel_bytes(), kSignBit, panel_bytes());
    });
}

uint8_t* Int8Matrix::address_of(PanelPosition position) const {
    return static_cast<uint8_t*>(buffer_.data()) + position.panel * panel_bytes() + position.column * kFeaturesALine;
}

float* Int8Matrix::scale_of(PanelPosition position) const {
    return static_cast<float*>(scale_buffer_.data()) + position.panel * kPanelColumns + position.column;
}

void Int8Matrix::fill(const int8_t* values, int64_t row_stride, const float* scales, int64_t first, int64_t num_rows) {
    // So many lines that they stay in the first-level cache until all their columns are written.
    constexpr int64_t kLinesAtOnce = 128;
    const int64_t num_whole_lines = in_features_ / kFeaturesALine;
    const auto numbers_of = [&](int64_t row) {
        return reinterpret_cast<const uint8_t*>(values) + (row - first) * row_stride;
    };
    pool().parallel_for((num_rows + kPanelColumns - 1) / kPanelColumns, [&](int64_t chunk) {
        const int64_t begin = first + chunk * kPanelColumns, end = std::min(begin + kPanelColumns, first + num_rows);
        for (int64_t line = 0; line < num_whole_lines; line += kLinesAtOnce)
            for_rows_by_four(panels_, begin, end, [&](int64_t row, auto num_rows) {
                write_lines<num_rows>(line, std::min(line + kLinesAtOnce, num_whole_lines),
                                      address_of(panels_.find(row)), kLineBytes,
                                      [&, numbers = numbers_of(row)](int i, int64_t line) {
                                          const auto* cell = numbers + i * row_stride + line * kFeaturesALine;
                                          return load_number<uint32_t>(cell) ^ kSignBits;
                                      });
            });
        for (int64_t row = begin; row < end; ++row) {
            const PanelPosition position = panels_.find(row);
            for (int64_t k = num_whole_lines * kFeaturesALine; k < in_features_; ++k)
                address_of(position)[num_whole_lines * kLineBytes + k % kFeaturesALine] =
                    numbers_of(row)[k] ^ kSignBit;
            *scale_of(position) = scales[row - first];
        }
    });
}

void Int8Matrix::read(int64_t first, int64_t num_rows, int8_t* values, float* scales) const {
    pool().parallel_for(num_rows, [&](int64_t row) {
        const PanelPosition position = panels_.find(first + row);
        const uint8_t* from = address_of(position);
        for (int64_t k = 0; k < in_features_; ++k)
            values[row * in_features_ + k] = static_cast<int8_t>(
                from[k / kFeaturesALine * kLineBytes + k % kFeaturesALine] ^ kSignBit);
        scales[row] = *scale_of(position);
    });
}

void Int8Matrix::gather(const int64_t* row_ids, int64_t num_ids, float* out, int64_t out_stride) const {
    panels_.check(row_ids, num_ids);
    pool().parallel_for(num_ids, [&](int64_t i) {
        const PanelPosition position = panels_.find(row_ids[i]);
        const uint8_t* from = address_of(position);
        const float scale = *scale_of(position);
        float* to = out + i * out_stride;
        for (int64_t k = 0; k < in_features_; ++k)
            to[k] = static_cast<float>(from[k / kFeaturesALine * kLineBytes + k % kFeaturesALine] - kSignBit) * scale;
    });
}

}  // namespace octavo
