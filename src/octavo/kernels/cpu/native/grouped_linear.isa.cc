// grouped_linear.h for one instruction set.
//
// A few rows of x and one strip of a panel have two kinds of sums in registers: whole numbers for the group of features
// at hand, and fp32 for the groups before it.

#include "grouped_linear.h"

#include "quantized_tiles.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kMaxRows = kWidth == 16 ? 6 : 2;
constexpr int64_t kCacheLine = 64;

F32 load_scale(const float* p) { return load(p); }
F32 load_scale(const uint16_t* p) { return load_f16(p); }

// Whole numbers of a group, for the two halves of a strip.
template <int kRows>
struct GroupSums {
    I32 low[kRows], high[kRows];
};

struct Nibbles {
    static constexpr int kDefaultZero = 8;
    static constexpr int kBias = 0;  // what load_nibbles has taken off each number
    static constexpr int kLinesAUnit = kFeaturesAUnit / 8;

    template <int kRows>
    static void add_unit(const uint8_t* line, const RowPointers<kRows>& x, GroupSums<kRows>& sums) {
        Unit low[kRows], high[kRows];
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) low[r] = start_unit(sums.low[r]), high[r] = start_unit(sums.high[r]);
#pragma GCC unroll 4
        for (int i = 0; i < kLinesAUnit; ++i, line += GroupedMatrix::kLineBytes) {
            I32 low_first, low_second, high_first, high_second;
            load_nibbles(line, low_first, low_second);
            load_nibbles(line + GroupedMatrix::kLineBytes / 2, high_first, high_second);
            prefetch_weights<kRows>(line);
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const I32 first = x.quad(r, i * 8), second = x.quad(r, i * 8 + 4);
                low[r] = add_nibbles(add_nibbles(low[r], low_first, first), low_second, second);
                high[r] = add_nibbles(add_nibbles(high[r], high_first, first), high_second, second);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
            sums.low[r] = end_unit(sums.low[r], low[r]);
            sums.high[r] = end_unit(sums.high[r], high[r]);
        }
    }
};

struct Bytes {
    static constexpr int kDefaultZero = 128;
    static constexpr int kBias = 128 - kOffset;
    static constexpr int kLinesAUnit = kFeaturesAUnit / 4;

    template <int kRows>
    static void add_unit(const uint8_t* line, const RowPointers<kRows>& x, GroupSums<kRows>& sums) {
#pragma GCC unroll 8
        for (int i = 0; i < kLinesAUnit; ++i, line += GroupedMatrix::kLineBytes) {
            const Quads8 low = load_quads(line), high = load_quads(line + GroupedMatrix::kLineBytes / 2);
            prefetch_weights<kRows>(line);
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const I32 quad = x.quad(r, i * 4);
                sums.low[r] = add_products(sums.low[r], low, quad);
                sums.high[r] = add_products(sums.high[r], high, quad);
            }
        }
    }
};

template <typename Format, typename Scale>
struct Grouped {
    template <int kRows>
    struct Kernel {
        struct Sums {
            F32 low[kRows], high[kRows];
        };

        static void run(const GroupedLinearArgs& args, int64_t first_row, int64_t panel) {
            for (int strip = 0; strip < kStripsPerPanel; ++strip) run_strip(args, first_row, panel, strip * kWidth);
        }

        static void run_strip(const GroupedLinearArgs& args, int64_t first_row, int64_t panel, int64_t lane) {
            const GroupedMatrix& weight = *args.weight;
            Sums sums;
            for (int r = 0; r < kRows; ++r) sums.low[r] = sums.high[r] = zero();
            add_groups(args, first_row, weight.data() + panel * weight.panel_bytes(), lane, sums);
            for (int r = 0; r < kRows; ++r) {
                const F32 scale = broadcast(args.x.scales[first_row + r]);
                finish(args.output, weight.panels(), first_row + r, panel, lane, sums.low[r] * scale,
                       sums.high[r] * scale);
            }
        }

        static void add_groups(const GroupedLinearArgs& args, int64_t first_row, const uint8_t* block, int64_t lane,
                               Sums& result) {
            const GroupedMatrix& weight = *args.weight;
            const int64_t num_groups = weight.num_groups(), group_size = weight.format().group_size;
            const int64_t lines_offset = weight.lines_offset();
            const Shift shift = weight.format().shift;
            const int of_size = group_size == 32 ? 0 : group_size == 64 ? 1 : 2;
            const int32_t* negated_sums = args.x.negated_group_sums[of_size] + first_row * num_groups;
            RowPointers<kRows> x(args.x, first_row);
            Sums sums = result;
            for (int64_t group = 0; group < num_groups; ++group, block += weight.block_bytes()) {
                const auto* scales = reinterpret_cast<const Scale*>(block) + lane;
                const uint8_t* shifts = block + weight.scales_bytes();
                for (int64_t offset = 0; offset < lines_offset; offset += kCacheLine)
                    prefetch(block + kPrefetchBytes + offset);
                GroupSums<kRows> of_group;
                start(shift, reinterpret_cast<const uint16_t*>(shifts) + lane, negated_sums + group, num_groups,
                      of_group);
                const uint8_t* line = block + lines_offset + lane * GroupedMatrix::kBytesAColumn;
                for (int64_t k = 0; k < group_size; k += kFeaturesAUnit) {
                    Format::add_unit(line, x, of_group);
                    line += Format::kLinesAUnit * GroupedMatrix::kLineBytes;
                    x.advance(kFeaturesAUnit);
                }
                const F32 low = load_scale(scales), high = load_scale(scales + kHalfPanel);
#pragma GCC unroll 6
                for (int r = 0; r < kRows; ++r) {
                    sums.low[r] = fma(to_f32(of_group.low[r]), low, sums.low[r]);
                    sums.high[r] = fma(to_f32(of_group.high[r]), high, sums.high[r]);
                }
                if (shift == Shift::offsets)
                    add_offsets(reinterpret_cast<const Scale*>(shifts) + lane, negated_sums + group, num_groups, sums);
            }
            result = sums;
        }

        // A zero point takes its product with the sum of the group's activations off.
        static void start(Shift shift, const uint16_t* zeros, const int32_t* negated_sums, int64_t row_stride,
                          GroupSums<kRows>& sums) {
            const bool has_zeros = shift == Shift::zeros;
            const I32 same = broadcast_i32(shift == Shift::half ? Format::kDefaultZero : 0);
            const I32 low = has_zeros ? load_u16(zeros) : same, high = has_zeros ? load_u16(zeros + kHalfPanel) : same;
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const int32_t sum = negated_sums[r * row_stride];
                sums.low[r] = multiply_small(low, broadcast_i32(sum));
                sums.high[r] = multiply_small(high, broadcast_i32(sum));
                if constexpr (Format::kBias > 0) {
                    sums.low[r] = subtract_i32(sums.low[r], broadcast_i32(Format::kBias * sum));
                    sums.high[r] = subtract_i32(sums.high[r], broadcast_i32(Format::kBias * sum));
                }
            }
        }

        static void add_offsets(const Scale* offsets, const int32_t* negated_sums, int64_t row_stride, Sums& sums) {
            const F32 low = load_scale(offsets), high = load_scale(offsets + kHalfPanel);
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const F32 sum = broadcast(static_cast<float>(negated_sums[r * row_stride]));
                sums.low[r] = fma(sum, low, sums.low[r]);
                sums.high[r] = fma(sum, high, sums.high[r]);
            }
        }
    };
};

template <typename Format>
void run(const GroupedLinearArgs& args) {
    if (args.weight->format().scale_type == ScaleType::fp32)
        run_linear<Grouped<Format, float>::template Kernel, kMaxRows>(args);
    else
        run_linear<Grouped<Format, uint16_t>::template Kernel, kMaxRows>(args);
}

}  // namespace

void grouped_linear(const GroupedLinearArgs& args) {
    if (args.weight->format().bits == 4)
        run<Nibbles>(args);
    else
        run<Bytes>(args);
}

}  // namespace octavo::OCTAVO_ISA
