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

template <int kRows>
struct Int8Kernel {
    static void run(const Int8LinearArgs& args, int64_t first_row, int64_t panel) {
        for (int strip = 0; strip < kStripsPerPanel; ++strip) run_strip(args, first_row, panel, strip * kWidth);
    }

    static void run_strip(const Int8LinearArgs& args, int64_t first_row, int64_t panel, int64_t lane) {
        const Int8Matrix& weight = *args.weight;
        I32 low[kRows], high[kRows];
        for (int r = 0; r < kRows; ++r)
            low[r] = high[r] = broadcast_i32(kOffset * args.x.negated_sums[first_row + r]);
        add_all(weight.data() + panel * weight.panel_bytes() + lane * Int8Matrix::kFeaturesALine, weight.num_lines(),
                RowPointers<kRows, int8_t>(args.x, first_row), low, high);
        const float* scales = weight.scales() + panel * kPanelColumns + lane;
        const F32 low_scale = load(scales), high_scale = load(scales + kHalfPanel);
        for (int r = 0; r < kRows; ++r) {
            const F32 scale = broadcast(args.x.scales[first_row + r]);
            finish(args.output, weight.panels(), first_row + r, panel, lane, to_f32(low[r]) * scale * low_scale,
                   to_f32(high[r]) * scale * high_scale);
        }
    }

    static void add_all(const uint8_t* weights, int64_t num_lines, RowPointers<kRows, int8_t> x, I32* low_sums,
                        I32* high_sums) {
        constexpr int kLinesAStep = Int8Matrix::kFeaturesAStep / Int8Matrix::kFeaturesALine;
        I32 low[kRows], high[kRows];
        for (int r = 0; r < kRows; ++r) low[r] = low_sums[r], high[r] = high_sums[r];
        for (int64_t line = 0; line < num_lines; line += kLinesAStep) {
#pragma GCC unroll 4
            for (int i = 0; i < kLinesAStep; ++i) {
                const Quads8 w_low = load_quads(weights), w_high = load_quads(weights + Int8Matrix::kLineBytes / 2);
                prefetch_weights<kRows>(weights);
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
        for (int r = 0; r < kRows; ++r) low_sums[r] = low[r], high_sums[r] = high[r];
    }
};

}  // namespace

void int8_linear(const Int8LinearArgs& args) { run_linear<Int8Kernel, kMaxRows>(args); }

}  // namespace octavo::OCTAVO_ISA
