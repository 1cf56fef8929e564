// The weight of a linear layer, in the order in which the kernels read it.
//
// A weight W [out_features, in_features] is stored as panels of 32 output columns. A panel is one row of 32 numbers for each
// input feature, so a product streams through memory from front to back, whatever the number of tokens. The layout is
// the same for all instruction sets.
//
//   fp32, fp16   row k of panel p: W[32p + 0][k], W[32p + 1][k], … W[32p + 31][k]
//   bf16         the same, with columns i and i + 16 side by side: a 32-bit lane holds a pair, and its two halves
//                widen to fp32 with one shift and one mask
//   bf16_pairs   a line of 32 pairs for each two features: W[32p + 0][k], W[32p + 0][k + 1], W[32p + 1][k], … for products
//                with activations that are rounded to bf16. Features are filled up to a multiple of 8 with zeros.
//
// Gated weights: panels.h. Columns beyond the last are zero.
#pragma once

#include <cstdint>
#include <string>

#include "aligned_buffer.h"
#include "panels.h"

namespace octavo {

enum class WeightType : int { fp32, bf16, fp16, bf16_pairs };

// By torch's name of it, or bfloat16_pairs. Throws std::invalid_argument for another one.
WeightType weight_type(const std::string& name);

class PackedMatrix {
  public:
    static constexpr int64_t kPairedFeaturesAStep = 8;

    // A matrix of zeros. Throws std::bad_alloc.
    PackedMatrix(int64_t out_features, int64_t in_features, WeightType type, bool gated);

    const Panels& panels() const { return panels_; }
    int64_t in_features() const { return in_features_; }
    WeightType type() const { return type_; }
    const void* data() const { return buffer_.data(); }
    std::size_t num_bytes() const { return buffer_.size(); }
    // Features of a panel: all, and what fills them up.
    int64_t panel_features() const { return panel_features_; }
    int64_t panel_bytes() const { return panel_features_ * kPanelColumns * item_bytes(); }
    int item_bytes() const { return type_ == WeightType::fp32 ? 4 : 2; }

    // Copy rows [first, first + num_rows) of W in; they are of this matrix's type, row_stride elements apart.
    void fill(const void* rows, int64_t first, int64_t num_rows, int64_t row_stride);

    // Widen row row_ids[i] of W to out + i * out_stride, for i in [0, num_ids): the lookup of an embedding.
    // Throws std::out_of_range.
    void gather(const int64_t* row_ids, int64_t num_ids, float* out, int64_t out_stride) const;

  private:
    // Rows that are copied in, from `first` of W on.
    struct Rows {
        const uint8_t* data;
        int64_t first, row_bytes;
        const uint8_t* row(int64_t row) const { return data + (row - first) * row_bytes; }
    };
    // Copy rows [begin, end) of W in.
    void fill_cells(const Rows& from, int64_t begin, int64_t end);
    void fill_numbers(const Rows& from, int64_t begin, int64_t end);

    uint8_t* address_of_row(int64_t row) const {
        return static_cast<uint8_t*>(buffer_.data()) + offset_of_row(row) * item_bytes();
    }
    // Where W[row][0] is, in elements from the start, and how much further W[row][k] is.
    int64_t offset_of_row(int64_t row) const;
    int64_t offset_of_feature(int64_t k) const {
        return type_ == WeightType::bf16_pairs ? k / 2 * 2 * kPanelColumns + k % 2 : k * kPanelColumns;
    }

    Panels panels_;
    int64_t in_features_, panel_features_;
    WeightType type_;
    AlignedBuffer buffer_;
};

}  // namespace octavo
