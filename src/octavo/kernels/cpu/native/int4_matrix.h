// A weight of 4-bit numbers with a scale, and perhaps a zero point, for each group of input features, in the order in which
// the kernels read it.
//
// W [out_features, in_features] is stored in panels of 32 columns of the product (panels.h). A panel has a block for each
// group of features, one after the other, and a block has
//   scales   of the 32 columns, fp16 or fp32
//   zeros    of the 32 columns, 16 bits each; left out if all are 8
//   lines    of 128 bytes, one for each eight features: four bytes of column 0, those of column 1, …. The low halves of the
//            four bytes are the first four features, the high halves the other four
// so that a product streams through memory from front to back.
#pragma once

#include <cstdint>

#include "aligned_buffer.h"
#include "panels.h"

namespace octavo {

enum class ScaleType : int { fp32, fp16 };

class Int4Matrix {
  public:
    static constexpr int64_t kFeaturesALine = 8;
    static constexpr int64_t kLineBytes = kFeaturesALine * kPanelColumns / 2;
    static constexpr int kDefaultZero = 8;

    // A matrix of zeros. in_features is a multiple of group_size, that is 32, 64 or 128. Throws std::bad_alloc.
    Int4Matrix(int64_t out_features, int64_t in_features, int64_t group_size, ScaleType scale_type, bool has_zeros,
               bool gated);

    const Panels& panels() const { return panels_; }
    int64_t in_features() const { return in_features_; }
    int64_t group_size() const { return group_size_; }
    int64_t num_groups() const { return num_groups_; }
    ScaleType scale_type() const { return scale_type_; }
    bool has_zeros() const { return has_zeros_; }
    int64_t scales_bytes() const { return kPanelColumns * (scale_type_ == ScaleType::fp32 ? 4 : 2); }  // of a block
    int64_t zeros_bytes() const { return has_zeros_ ? kPanelColumns * 2 : 0; }
    int64_t block_bytes() const { return scales_bytes() + zeros_bytes() + group_size_ / kFeaturesALine * kLineBytes; }
    int64_t panel_bytes() const { return num_groups_ * block_bytes(); }
    const uint8_t* data() const { return static_cast<const uint8_t*>(buffer_.data()); }
    std::size_t num_bytes() const { return buffer_.size(); }

    // Copy rows [first, first + num_rows) of W in, each without gaps: in_features / 2 bytes (the even feature in the low
    // half), and scales and zeros of num_groups. The scales are of scale_type; zeros are not read without has_zeros.
    void fill(const uint8_t* values, const void* scales, const uint8_t* zeros, int64_t first, int64_t num_rows);

    // The contrary: copy rows out.
    void read(int64_t first, int64_t num_rows, uint8_t* values, void* scales, uint8_t* zeros) const;

  private:
    // Where a row's scale, zero and first byte of a group are.
    struct Cells {
        uint8_t *scale, *zero, *bytes;
    };
    Cells cells_of(int64_t row, int64_t group) const;

    Panels panels_;
    int64_t in_features_, group_size_, num_groups_;
    ScaleType scale_type_;
    bool has_zeros_;
    AlignedBuffer buffer_;
};

}  // namespace octavo
