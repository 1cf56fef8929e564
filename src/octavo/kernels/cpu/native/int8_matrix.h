// A weight of int8 numbers with a scale for each row, in the order in which the kernels read it.
//
// W [out_features, in_features] is stored in panels of 32 columns of the product (panels.h). A panel has one line of 128 bytes
// for each four input features: the four numbers of column 0, those of column 1, …. 128 is added to each number, since
// the instructions multiply unsigned numbers with signed ones. Features are filled up to a multiple of 16 with zeros, and so
// are the columns of the last panel.
#pragma once

#include <cstdint>

#include "aligned_buffer.h"
#include "panels.h"

namespace octavo {

class Int8Matrix {
  public:
    static constexpr int64_t kFeaturesALine = 4;
    static constexpr int64_t kFeaturesAStep = 16;
    static constexpr int64_t kLineBytes = kFeaturesALine * kPanelColumns;
    // Sums of so many products, and what is added to weights, stay below 2^31.
    static constexpr int64_t kMaxInFeatures = 1 << 17;

    // A matrix of zeros. Throws std::bad_alloc.
    Int8Matrix(int64_t out_features, int64_t in_features, bool gated);

    const Panels& panels() const { return panels_; }
    int64_t in_features() const { return in_features_; }
    int64_t group_size() const { return in_features_; }
    int64_t num_lines() const { return num_lines_; }  // of a panel
    int64_t panel_bytes() const { return num_lines_ * kLineBytes; }
    const uint8_t* data() const { return static_cast<const uint8_t*>(buffer_.data()); }
    // Of each column of each panel, in the panels' order.
    const float* scales() const { return static_cast<const float*>(scale_buffer_.data()); }
    std::size_t num_bytes() const { return buffer_.size() + scale_buffer_.size(); }

    // Copy rows [first, first + num_rows) of W in. The values of a row are row_stride bytes after those of the last one.
    void fill(const int8_t* values, int64_t row_stride, const float* scales, int64_t first, int64_t num_rows);

    // The contrary: copy rows out, without gaps.
    void read(int64_t first, int64_t num_rows, int8_t* values, float* scales) const;

    // Write row row_ids[i] of W, times its scale, to out + i * out_stride, for i in [0, num_ids): the lookup of an
    // embedding. Throws std::out_of_range.
    void gather(const int64_t* row_ids, int64_t num_ids, float* out, int64_t out_stride) const;

  private:
    uint8_t* address_of(PanelPosition position) const;
    float* scale_of(PanelPosition position) const;

    Panels panels_;
    int64_t in_features_, num_lines_;
    AlignedBuffer buffer_, scale_buffer_;
};

}  // namespace octavo
