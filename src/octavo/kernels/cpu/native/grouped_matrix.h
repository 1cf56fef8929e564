// A weight of 4-bit or 8-bit numbers with a scale, and perhaps a zero point or an offset, for each group of input features, in
// the order in which the kernels read it.
//
// W [out_features, in_features] is stored in panels of 32 columns of the product (panels.h). A panel has a block for each
// group of features, one after the other, and a block has
//   scales   of the 32 columns, fp16 or fp32
//   shifts   of the 32 columns: zeros of 16 bits each, offsets of the scales' type, or nothing
//   lines    of 128 bytes. Of 8 bits: one for each four features, the four numbers of column 0, those of column 1, …. Of 4
//            bits: one for each eight features, whose first four are in the low halves of a column's four bytes and whose
//            other four in the high halves
// so that a product streams through memory from front to back.
#pragma once

#include <cstdint>

#include "aligned_buffer.h"
#include "panels.h"

namespace octavo {

enum class ScaleType : int { fp32, fp16 };

// What a number stands for: (number - half of their range) * scale, (number - zero) * scale, or number * scale - offset.
enum class Shift : int { half, zeros, offsets };

struct GroupedFormat {
    int bits;            // 4 or 8
    int64_t group_size;  // 32, 64 or 128, of 8 bits also 16
    ScaleType scale_type;
    Shift shift;

    int default_zero() const { return bits == 4 ? 8 : 128; }
    int64_t scale_bytes() const { return scale_type == ScaleType::fp32 ? 4 : 2; }
    int64_t shift_bytes() const { return shift == Shift::half ? 0 : shift == Shift::zeros ? 2 : scale_bytes(); }
    int64_t features_a_line() const { return 32 / bits; }
    int64_t group_bytes() const { return group_size * bits / 8; }  // of a row
};

class GroupedMatrix {
  public:
    static constexpr int64_t kBytesAColumn = 4;  // in a line
    static constexpr int64_t kLineBytes = kBytesAColumn * kPanelColumns;

    // A matrix of zeros. in_features is a multiple of the group size. Throws std::bad_alloc.
    GroupedMatrix(int64_t out_features, int64_t in_features, const GroupedFormat& format, bool gated);

    const Panels& panels() const { return panels_; }
    const GroupedFormat& format() const { return format_; }
    int64_t in_features() const { return in_features_; }
    int64_t group_size() const { return format_.group_size; }
    int64_t num_groups() const { return num_groups_; }
    int64_t scales_bytes() const { return kPanelColumns * format_.scale_bytes(); }  // of a block
    int64_t lines_offset() const { return scales_bytes() + kPanelColumns * format_.shift_bytes(); }
    int64_t block_bytes() const { return lines_offset() + format_.group_size / format_.features_a_line() * kLineBytes; }
    int64_t panel_bytes() const { return num_groups_ * block_bytes(); }
    const uint8_t* data() const { return static_cast<const uint8_t*>(buffer_.data()); }
    std::size_t num_bytes() const { return buffer_.size(); }

    // Copy rows [first, first + num_rows) of W in, each without gaps: numbers (of 4 bits: the even feature in the low half of
    // a byte), and num_groups scales and shifts. Shifts are zeros of one byte, or offsets of the scales' type, or not read.
    void fill(const uint8_t* values, const void* scales, const void* shifts, int64_t first, int64_t num_rows);

    // The contrary: copy rows out.
    void read(int64_t first, int64_t num_rows, uint8_t* values, void* scales, void* shifts) const;

    // The same for rows in any order, those of a lookup. Throws std::out_of_range.
    void gather(const int64_t* row_ids, int64_t num_ids, uint8_t* values, void* scales, void* shifts) const;

  private:
    // Where a row's scale, shift and first byte of a group are.
    struct Cells {
        uint8_t *scale, *shift, *bytes;
    };
    Cells cells_of(int64_t row, int64_t group) const;
    // Copy a row out, to row `to_row` of the destinations.
    void read_row(int64_t row, int64_t to_row, uint8_t* values, void* scales, void* shifts) const;

    Panels panels_;
    GroupedFormat format_;
    int64_t in_features_, num_groups_;
    AlignedBuffer buffer_;
};

}  // namespace octavo
