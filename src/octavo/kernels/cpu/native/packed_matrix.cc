#include "packed_matrix.h"

#include <algorithm>
#include <stdexcept>

#include "thread_pool.h"
#include "widen.h"

namespace octavo {

namespace {

// Features at a time when rows are packed: 32 rows of them stay in the first-level cache until their lines are full.
constexpr int64_t kFeaturesAtOnce = 64;

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
    const auto copy = [&](auto* destination, const auto* source) {
        const int64_t num_chunks = (num_rows + kPanelColumns - 1) / kPanelColumns;
        pool().parallel_for(num_chunks, [&](int64_t chunk) {
            const int64_t begin = chunk * kPanelColumns, end = std::min(begin + kPanelColumns, num_rows);
            for (int64_t k0 = 0; k0 < in_features_; k0 += kFeaturesAtOnce) {
                const int64_t k1 = std::min(k0 + kFeaturesAtOnce, in_features_);
                for (int64_t row = begin; row < end; ++row) {
                    auto* to = destination + offset_of_row(first + row);
                    const auto* from = source + row * row_stride;
                    for (int64_t k = k0; k < k1; ++k) to[offset_of_feature(k)] = from[k];
                }
            }
        });
    };
    if (item_bytes() == 4)
        copy(static_cast<uint32_t*>(buffer_.data()), static_cast<const uint32_t*>(rows));
    else
        copy(static_cast<uint16_t*>(buffer_.data()), static_cast<const uint16_t*>(rows));
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
