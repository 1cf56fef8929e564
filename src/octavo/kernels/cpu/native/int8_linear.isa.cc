// int8_linear.h for one instruction set.
//
// The sums of a few rows of x and one strip of a panel are in registers while they walk the input features. They are
// whole numbers, so their order does not matter; what follows is computed element by element.

#include "int8_linear.h"

#include "quantized_rows.h"
#include "rounded_tiles.h"
#include "simd_int8.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kMaxRows = kWidth == 16 ? 10 : 4;
// For more rows.
constexpr int kRowsABlock = kWidth == 16 ? 8 : 4;

template <int kRows>
struct Int8Kernel {
    static void run(const Int8LinearArgs& args, int64_t first_row, int64_t panel, const Pass& pass) {
        const Int8Matrix& weight = *args.weight;
        prefetch(weight.scales() + (panel + 1) * kPanelColumns);
        prefetch(weight.scales() + (panel + 1) * kPanelColumns + kHalfPanel);
        const uint8_t* weights = weight.data() + panel * weight.panel_bytes();
        Ahead<kRows> ahead(pass, weights, weight.panel_bytes(), kStripsPerPanel);
        for (int strip = 0; strip < kStripsPerPanel; ++strip)
            run_strip(args, first_row, panel, strip * kWidth, weights, ahead);
    }

    static void run_strip(const Int8LinearArgs& args, int64_t first_row, int64_t panel, int64_t lane,
                          const uint8_t* weights, Ahead<kRows>& ahead) {
        const Int8Matrix& weight = *args.weight;
        alignas(64) int32_t sums[kRows][2][kWidth];
        add_all(weights + lane * Int8Matrix::kFeaturesALine, weight.num_lines(),
                RowPointers<kRows, int8_t>(args.x, first_row), ahead, sums);
        const float* scales = weight.scales() + panel * kPanelColumns + lane;
        const F32 low_scale = load(scales), high_scale = load(scales + kHalfPanel);
        const StripOutput output(args.output, weight.panels(), panel, lane);
        for (int r = 0; r < kRows; ++r) {
            const F32 scale = broadcast(args.x.scales[first_row + r]);
            const I32 offset = broadcast_i32(kOffset * args.x.negated_sums[first_row + r]);
            const I32 low = add_i32(load_i32(sums[r][0]), offset), high = add_i32(load_i32(sums[r][1]), offset);
            output.write(first_row + r, to_f32(low) * scale * low_scale, to_f32(high) * scale * high_scale);
        }
    }

    // Sums in registers while they grow, and then in memory, where a loop over the rows finds them.
    static void add_all(const uint8_t* weights, int64_t num_lines, RowPointers<kRows, int8_t> x, Ahead<kRows>& ahead_of_all,
                        int32_t (&sums)[kRows][2][kWidth]) {
        constexpr int kLinesAStep = Int8Matrix::kFeaturesAStep / Int8Matrix::kFeaturesALine;
        Ahead<kRows> ahead = ahead_of_all;
        I32 low[kRows], high[kRows];
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) low[r] = high[r] = broadcast_i32(0);
        for (int64_t line = 0; line < num_lines; line += kLinesAStep) {
#pragma GCC unroll 4
            for (int i = 0; i < kLinesAStep; ++i) {
                const Quads8 w_low = load_quads(weights), w_high = load_quads(weights + Int8Matrix::kLineBytes / 2);
                ahead.fetch(weights);
                weights += Int8Matrix::kLineBytes;
#pragma GCC unroll 12
                for (int r = 0; r < kRows; ++r) {
                    const I32 quad = broadcast_quad(x.at(r, i * Int8Matrix::kFeaturesALine));
                    low[r] = add_products(low[r], w_low, quad);
                    high[r] = add_products(high[r], w_high, quad);
                }
            }
            x.advance(Int8Matrix::kFeaturesAStep);
        }
        ahead_of_all = ahead;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            store_i32(sums[r][0], low[r]);
            store_i32(sums[r][1], high[r]);
        }
    }
};

}  // namespace

void int8_linear(const Int8LinearArgs& args) { run_linear<Int8Kernel, kMaxRows>(args, kRowsABlock); }

}  // namespace octavo::OCTAVO_ISA
