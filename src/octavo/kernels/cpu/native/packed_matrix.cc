#include "packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "lines.h"
#include "thread_pool.h"
#include "widen.h"

namespace octavo {

namespace {

// At a time when rows are packed: 32 rows of them stay in the first-level cache until their lines are full.
constexpr int64_t kLinesAtOnce = 64;
constexpr int64_t kCellBytes = 4, kCellLineBytes = kPanelColumns * kCellBytes;

}  // namespace

WeightType weight_type(const std::string& name) {
    if (name == "float32") return WeightType::fp32;
    if (name == "bfloat16") return WeightType::bf16;
    if (name == "float16") return WeightType::fp16;
    if (name == "bfloat16_pairs") return WeightType::bf16_pairs;
    throw std::invalid_argument("no packed weights of type " + name);
}

PackedMatrix::PackedMatrix(int64_t out_features, int64_t in_features, WeightType type, bool gated)
    : panels_{out_features, gated},
      in_features_(in_features),
      panel_features_(type == WeightType::bf16_pairs
                          ? (in_features + kPairedFeaturesAStep - 1) / kPairedFeaturesAStep * kPairedFeaturesAStep
                          : in_features),
      type_(type),
      buffer_(static_cast<std::size_t>(panels_.count()) * panel_bytes()) {}

int64_t PackedMatrix::offset_of_row(int64_t row) const {
    auto [panel, column] = panels_.find(row);
    if (type_ == WeightType::bf16) column = column % kHalfPanel * 2 + column / kHalfPanel;
    if (type_ == WeightType::bf16_pairs) column *= 2;
    return panel * panel_features_ * kPanelColumns + column;
}

void PackedMatrix::fill(const void* rows, int64_t first, int64_t num_rows, int64_t row_stride) {
    const Rows from{static_cast<const uint8_t*>(rows), first, row_stride * item_bytes()};
    const int64_t num_chunks = (num_rows + kPanelColumns - 1) / kPanelColumns;
    pool().parallel_for(num_chunks, [&](int64_t chunk) {
        const int64_t begin = first + chunk * kPanelColumns, end = std::min(begin + kPanelColumns, first + num_rows);
        if (type_ == WeightType::fp32 || type_ == WeightType::bf16_pairs)
            fill_cells(from, begin, end);
        else
            fill_numbers(from, begin, end);
    });
}

// A number of 32 bits or a pair of 16 bits is a cell.
void PackedMatrix::fill_cells(const Rows& from, int64_t begin, int64_t end) {
    const int64_t num_lines = in_features_ * item_bytes() / kCellBytes;
    for (int64_t line = 0; line < num_lines; line += kLinesAtOnce)
        for_rows_by_four(panels_, begin, end, [&](int64_t row, auto num_rows) {
            write_lines<num_rows>(line, std::min(line + kLinesAtOnce, num_lines), address_of_row(row), kCellLineBytes,
                                  [&, cells = from.row(row)](int i, int64_t line) {
                                      return load_number<uint32_t>(cells + i * from.row_bytes + line * kCellBytes);
                                  });
        });
    if (num_lines * kCellBytes < in_features_ * item_bytes())  // a feature without another
        for (int64_t row = begin; row < end; ++row)
            std::memcpy(address_of_row(row) + num_lines * kCellLineBytes, from.row(row) + num_lines * kCellBytes,
                        item_bytes());
}

void PackedMatrix::fill_numbers(const Rows& from, int64_t begin, int64_t end) {
    for (int64_t k0 = 0; k0 < in_features_; k0 += kLinesAtOnce) {
        const int64_t k1 = std::min(k0 + kLinesAtOnce, in_features_);
        for (int64_t row = begin; row < end; ++row) {
            auto* to = static_cast<uint16_t*>(buffer_.data()) + offset_of_row(row);
            const auto* numbers = reinterpret_cast<const uint16_t*>(from.row(row));
            for (int64_t k = k0; k < k1; ++k) to[offset_of_feature(k)] = numbers[k];
        }
    }
}

void PackedMatrix::gather(const int64_t* row_ids, int64_t num_ids, float* out, int64_t out_stride) const {
    panels_.check(row_ids, num_ids);
    pool().parallel_for(num_ids, [&](int64_t i) {
        const int64_t offset = offset_of_row(row_ids[i]);
        const auto widen_row = [&](const auto* from, auto widen) {
            float* to = out + i * out_stride;
            for (int64_t k = 0; k < in_features_; ++k) to[k] = widen(from[offset + offset_of_feature(k)]);
        };
        switch (type_) {
            case WeightType::fp32:
                return widen_row(static_cast<const float*>(data()), [](float value) { return value; });
            case WeightType::bf16:
            case WeightType::bf16_pairs:
                return widen_row(static_cast<const uint16_t*>(data()), widen_bf16);
            case WeightType::fp16:
                return widen_row(static_cast<const uint16_t*>(data()), widen_f16);
        }
    });
}

}  // namespace octavo
