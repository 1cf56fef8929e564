// grouped_linear.h for one instruction set.
//
// A few rows of x and a strip of a panel have two kinds of sums in registers: whole numbers for the group of features at
// hand, and fp32 for the groups before it. For more rows of x than fit, the two halves of the strip have their turn one
// after the other.

#include "grouped_linear.h"

#include "group_scales.h"
#include "quantized_rows.h"
#include "rounded_tiles.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

namespace {

// Rows whose sums fit in registers, for both halves of a strip at once.
constexpr int kRowsThatFit = kWidth == 16 ? 6 : 2;
// A few rows more are better off with some of their fp32 sums in the cache than as two blocks, the first of which waits
// for memory; but not where a unit has sums of its own in registers.
#if defined(OCTAVO_ISA_avx512_vnni)
constexpr int kRowsBeyond = 2;
#else
constexpr int kRowsBeyond = 0;
#endif

// Whole numbers of a group: of both halves of a strip, or of one.
template <int kRows, int kHalves>
struct GroupSums {
    I32 of[kHalves][kRows];
};

struct Nibbles {
    static constexpr int kMaxRowsOfStrip = kRowsThatFit + kRowsBeyond;
    static constexpr int kMaxRows = kMaxRowsOfStrip, kRowsABlock = kRowsThatFit;
    static constexpr int kDefaultZero = 8;
    static constexpr int kBias = 0;  // what load_nibbles has taken off each number
    static constexpr int kFeatures = kFeaturesAUnit;  // of which add_unit adds the products
    static constexpr int kLinesAUnit = kFeatures / 8;

    template <int kRows, int kHalves>
    static void add_unit(const uint8_t* line, const RowPointers<kRows, int8_t>& x, Ahead<kRows>& ahead,
                         GroupSums<kRows, kHalves>& sums) {
        Unit units[kHalves][kRows];
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h)
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) units[h][r] = start_unit(sums.of[h][r]);
#pragma GCC unroll 4
        for (int i = 0; i < kLinesAUnit; ++i, line += GroupedMatrix::kLineBytes) {
            I32 first[kHalves], second[kHalves];
#pragma GCC unroll 2
            for (int h = 0; h < kHalves; ++h)
                load_nibbles(line + h * GroupedMatrix::kLineBytes / 2, first[h], second[h]);
            ahead.fetch(line);
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) {
                const I32 x_first = broadcast_quad(x.at(r, i * 8)), x_second = broadcast_quad(x.at(r, i * 8 + 4));
#pragma GCC unroll 2
                for (int h = 0; h < kHalves; ++h)
                    units[h][r] = add_nibbles(add_nibbles(units[h][r], first[h], x_first), second[h], x_second);
            }
        }
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h)
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) sums.of[h][r] = end_unit(sums.of[h][r], units[h][r]);
    }
};

struct Bytes {
    static constexpr int kMaxRowsOfStrip = kRowsThatFit;
    static constexpr int kMaxRows = 2 * kRowsThatFit, kRowsABlock = kMaxRows;
    static constexpr int kDefaultZero = 128;
    static constexpr int kBias = 128 - kOffset;
    static constexpr int kFeatures = 16;
    static constexpr int kLinesAUnit = kFeatures / 4;

    template <int kRows, int kHalves>
    static void add_unit(const uint8_t* line, const RowPointers<kRows, int8_t>& x, Ahead<kRows>& ahead,
                         GroupSums<kRows, kHalves>& sums) {
#pragma GCC unroll 8
        for (int i = 0; i < kLinesAUnit; ++i, line += GroupedMatrix::kLineBytes) {
            Quads8 w[kHalves];
#pragma GCC unroll 2
            for (int h = 0; h < kHalves; ++h) w[h] = load_quads(line + h * GroupedMatrix::kLineBytes / 2);
            ahead.fetch(line);
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) {
                const I32 quad = broadcast_quad(x.at(r, i * 4));
#pragma GCC unroll 2
                for (int h = 0; h < kHalves; ++h) sums.of[h][r] = add_products(sums.of[h][r], w[h], quad);
            }
        }
    }
};

template <typename Format, typename Scale>
struct Grouped {
    template <int kRows>
    struct Kernel {
        static constexpr int kHalves = kRows > Format::kMaxRowsOfStrip ? 1 : 2;  // at once

        struct Sums {
            F32 of[kHalves][kRows];
        };

        static void run(const GroupedLinearArgs& args, int64_t first_row, int64_t panel, const Pass& pass) {
            const int64_t panel_bytes = args.weight->panel_bytes();
            const uint8_t* weights = args.weight->data() + panel * panel_bytes;
            Ahead<kRows> ahead(pass, weights, panel_bytes, kStripsPerPanel * 2 / kHalves);
            for (int strip = 0; strip < kStripsPerPanel; ++strip)
                run_strip(args, first_row, panel, strip * kWidth, weights, ahead);
        }

        static void run_strip(const GroupedLinearArgs& args, int64_t first_row, int64_t panel, int64_t lane,
                              const uint8_t* weights, Ahead<kRows>& ahead) {
            Sums turns[2 / kHalves];
            for (int turn = 0; turn < 2 / kHalves; ++turn)
                add_groups(args, first_row, lane + turn * kHalfPanel, weights, ahead, turns[turn]);
            const Sums &low = turns[0], &high = turns[2 / kHalves - 1];
            const StripOutput output(args.output, args.weight->panels(), panel, lane);
            for (int r = 0; r < kRows; ++r) output.write(first_row + r, low.of[0][r], high.of[kHalves - 1][r]);
        }

        static void add_groups(const GroupedLinearArgs& args, int64_t first_row, int64_t column,
                               const uint8_t* block, Ahead<kRows>& ahead_of_all, Sums& result) {
            const GroupedMatrix& weight = *args.weight;
            const int64_t num_groups = weight.num_groups(), group_size = weight.format().group_size;
            const int64_t lines_offset = weight.lines_offset(), block_bytes = weight.block_bytes();
            const Shift shift = weight.format().shift;
            const float* x_scales = args.x.scales + first_row;
            const int32_t* negated_sums = args.x.negated_sums + first_row;
            Ahead<kRows> ahead = ahead_of_all;
            RowPointers<kRows, int8_t> x(args.x, first_row);
            Sums sums;
#pragma GCC unroll 2
            for (int h = 0; h < kHalves; ++h)
#pragma GCC unroll 12
                for (int r = 0; r < kRows; ++r) sums.of[h][r] = zero();
            for (int64_t group = 0; group < num_groups; ++group, block += block_bytes) {
                const auto* scales = reinterpret_cast<const Scale*>(block) + column;
                const uint8_t* shifts = block + weight.scales_bytes();
                for (int64_t offset = 0; offset < lines_offset; offset += kLineBytes) ahead.fetch(block + offset);
                GroupSums<kRows, kHalves> of_group;
                start(shift, reinterpret_cast<const uint16_t*>(shifts) + column, negated_sums, of_group);
                const uint8_t* line = block + lines_offset + column * GroupedMatrix::kBytesAColumn;
                for (int64_t k = 0; k < group_size; k += Format::kFeatures) {
                    Format::add_unit(line, x, ahead, of_group);
                    line += Format::kLinesAUnit * GroupedMatrix::kLineBytes;
                    x.advance(Format::kFeatures);
                }
#pragma GCC unroll 2
                for (int h = 0; h < kHalves; ++h) {
                    const F32 scale = load_scale(scales + h * kHalfPanel);
#pragma GCC unroll 12
                    for (int r = 0; r < kRows; ++r)
                        sums.of[h][r] =
                            fma(to_f32(of_group.of[h][r]), scale * broadcast(x_scales[r]), sums.of[h][r]);
                }
                if (shift == Shift::offsets)
                    add_offsets(reinterpret_cast<const Scale*>(shifts) + column, negated_sums, x_scales, sums);
                x_scales += args.x.num_rows;
                negated_sums += args.x.num_rows;
            }
            result = sums;
            ahead_of_all = ahead;
        }

        // A zero point takes its product with the sum of the group's activations off.
        static void start(Shift shift, const uint16_t* zeros, const int32_t* negated_sums,
                          GroupSums<kRows, kHalves>& sums) {
            // What all columns have in common costs no product of vectors.
            const int32_t zero_of_all = (shift == Shift::half ? Format::kDefaultZero : 0) - Format::kBias;
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) {
                const I32 taken_off = broadcast_i32(zero_of_all * negated_sums[r]);
#pragma GCC unroll 2
                for (int h = 0; h < kHalves; ++h) sums.of[h][r] = taken_off;
            }
            if (shift != Shift::zeros) return;
#pragma GCC unroll 2
            for (int h = 0; h < kHalves; ++h) {
                const I32 zero_points = load_u16(zeros + h * kHalfPanel);
#pragma GCC unroll 12
                for (int r = 0; r < kRows; ++r)
                    sums.of[h][r] =
                        add_i32(sums.of[h][r], multiply_small(zero_points, broadcast_i32(negated_sums[r])));
            }
        }

        static void add_offsets(const Scale* offsets, const int32_t* negated_sums, const float* x_scales, Sums& sums) {
#pragma GCC unroll 2
            for (int h = 0; h < kHalves; ++h) {
                const F32 offset = load_scale(offsets + h * kHalfPanel);
#pragma GCC unroll 12
                for (int r = 0; r < kRows; ++r) {
                    const F32 sum = broadcast(static_cast<float>(negated_sums[r]) * x_scales[r]);
                    sums.of[h][r] = fma(sum, offset, sums.of[h][r]);
                }
            }
        }
    };
};

template <typename Format>
void run(const GroupedLinearArgs& args) {
    if (args.weight->format().scale_type == ScaleType::fp32)
        run_linear<Grouped<Format, float>::template Kernel, Format::kMaxRows>(args, Format::kRowsABlock);
    else
        run_linear<Grouped<Format, uint16_t>::template Kernel, Format::kMaxRows>(args, Format::kRowsABlock);
}

}  // namespace

void grouped_linear(const GroupedLinearArgs& args) {
    if (args.weight->format().bits == 4)
        run<Nibbles>(args);
    else
        run<Bytes>(args);
}

}  // namespace octavo::OCTAVO_ISA
