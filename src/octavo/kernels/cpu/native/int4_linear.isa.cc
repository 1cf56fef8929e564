// int4_linear.h for one instruction set.
//
// A few rows of x and one strip of a panel have two kinds of sums in registers: whole numbers for the group of features
// at hand, and fp32 for the groups before it.

#include "int4_linear.h"

#include "quantized_tiles.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kMaxRows = kWidth == 16 ? 6 : 2;
constexpr int64_t kCacheLine = 64;
constexpr int kLinesAUnit = kFeaturesAUnit / Int4Matrix::kFeaturesALine;

F32 load_scale(const float* p) { return load(p); }
F32 load_scale(const uint16_t* p) { return load_f16(p); }

template <typename Scale>
struct Int4 {
    template <int kRows>
    struct Kernel {
        struct Sums {
            F32 low[kRows], high[kRows];
        };
        struct GroupSums {
            I32 low[kRows], high[kRows];
        };

        static void run(const Int4LinearArgs& args, int64_t first_row, int64_t panel) {
            for (int strip = 0; strip < kStripsPerPanel; ++strip) run_strip(args, first_row, panel, strip * kWidth);
        }

        static void run_strip(const Int4LinearArgs& args, int64_t first_row, int64_t panel, int64_t lane) {
            const Int4Matrix& weight = *args.weight;
            Sums sums;
            for (int r = 0; r < kRows; ++r) sums.low[r] = sums.high[r] = zero();
            add_groups(args, first_row, weight.data() + panel * weight.panel_bytes(), lane, sums);
            for (int r = 0; r < kRows; ++r) {
                const F32 scale = broadcast(args.x.scales[first_row + r]);
                finish(args.output, weight.panels(), first_row + r, panel, lane, sums.low[r] * scale,
                       sums.high[r] * scale);
            }
        }

        static void add_groups(const Int4LinearArgs& args, int64_t first_row, const uint8_t* block, int64_t lane,
                               Sums& result) {
            const Int4Matrix& weight = *args.weight;
            const int64_t num_groups = weight.num_groups(), group_size = weight.group_size();
            const int64_t lines_offset = weight.scales_bytes() + weight.zeros_bytes();
            const int of_size = group_size == 32 ? 0 : group_size == 64 ? 1 : 2;
            const int32_t* negated_sums = args.x.negated_group_sums[of_size] + first_row * num_groups;
            RowPointers<kRows> x(args.x, first_row);
            Sums sums = result;
            for (int64_t group = 0; group < num_groups; ++group, block += weight.block_bytes()) {
                const auto* scales = reinterpret_cast<const Scale*>(block) + lane;
                for (int64_t offset = 0; offset < lines_offset; offset += kCacheLine)
                    prefetch(block + kPrefetchBytes + offset);
                GroupSums of_group;
                start(weight.has_zeros() ? block + weight.scales_bytes() + lane * 2 : nullptr, negated_sums + group,
                      num_groups, of_group);
                const uint8_t* line = block + lines_offset + lane * 4;
                for (int64_t k = 0; k < group_size; k += kFeaturesAUnit) {
                    add_unit(line, x, of_group);
                    line += kLinesAUnit * Int4Matrix::kLineBytes;
                    x.advance(kFeaturesAUnit);
                }
                const F32 low = load_scale(scales), high = load_scale(scales + kHalfPanel);
#pragma GCC unroll 6
                for (int r = 0; r < kRows; ++r) {
                    sums.low[r] = fma(to_f32(of_group.low[r]), low, sums.low[r]);
                    sums.high[r] = fma(to_f32(of_group.high[r]), high, sums.high[r]);
                }
            }
            result = sums;
        }

        // A zero point takes its product with the sum of the group's activations off.
        static void start(const uint8_t* zeros, const int32_t* negated_sums, int64_t row_stride, GroupSums& sums) {
            I32 low = broadcast_i32(Int4Matrix::kDefaultZero), high = low;
            if (zeros) {
                low = load_u16(reinterpret_cast<const uint16_t*>(zeros));
                high = load_u16(reinterpret_cast<const uint16_t*>(zeros) + kHalfPanel);
            }
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) {
                const I32 negated_sum = broadcast_i32(negated_sums[r * row_stride]);
                sums.low[r] = multiply_small(low, negated_sum);
                sums.high[r] = multiply_small(high, negated_sum);
            }
        }

        static void add_unit(const uint8_t* line, const RowPointers<kRows>& x, GroupSums& sums) {
            Unit low[kRows], high[kRows];
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r) low[r] = start_unit(sums.low[r]), high[r] = start_unit(sums.high[r]);
#pragma GCC unroll 4
            for (int i = 0; i < kLinesAUnit; ++i, line += Int4Matrix::kLineBytes) {
                I32 low_first, low_second, high_first, high_second;
                load_nibbles(line, low_first, low_second);
                load_nibbles(line + Int4Matrix::kLineBytes / 2, high_first, high_second);
                prefetch(line + kPrefetchBytes);
                prefetch(line + kPrefetchBytes + Int4Matrix::kLineBytes / 2);
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
};

}  // namespace

void int4_linear(const Int4LinearArgs& args) {
    if (args.weight->scale_type() == ScaleType::fp32)
        run_linear<Int4<float>::Kernel, kMaxRows>(args);
    else
        run_linear<Int4<uint16_t>::Kernel, kMaxRows>(args);
}

}  // namespace octavo::OCTAVO_ISA
