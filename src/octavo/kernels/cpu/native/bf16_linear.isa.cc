// bf16_linear.h for one instruction set.
//
// The sums of a few rows of x and some strips of a panel are in registers while they walk the input features, two at a
// time, in order and with one sum an element. So an element of y is the same bits whatever the number of rows or threads.

#include "bf16_linear.h"

#include "bf16_rows.h"
#include "rounded_tiles.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kRegisters = kWidth == 16 ? 32 : 16;
constexpr int kMaxRows = kWidth == 16 ? 12 : 5;
constexpr int kFeaturesALine = 2, kLinesAStep = PackedMatrix::kPairedFeaturesAStep / kFeaturesALine;
constexpr int kLineItems = kFeaturesALine * kPanelColumns;
constexpr int kVectorsOfPairs = sizeof(Bf16Pairs) / sizeof(F32);

// Strips whose sums stay in registers, beside a broadcast of x and two vectors of weights.
template <int kRows>
constexpr int strips_at_once() {
    int strips = kStripsPerPanel;
    while (strips > 1 && 2 * strips * kRows + 2 * kVectorsOfPairs + 1 > kRegisters) strips /= 2;
    return strips;
}

struct Product {
    const PackedMatrix* weight;
    RoundedRows x;
    const LinearOutput& output;
};

template <int kRows>
struct Bf16Kernel {
    static constexpr int kStrips = strips_at_once<kRows>();

    static void run(const Product& args, int64_t first_row, int64_t panel) {
        for (int strip = 0; strip < kStripsPerPanel; strip += kStrips)
            run_strips(args, first_row, panel, strip * kWidth);
    }

    static void run_strips(const Product& args, int64_t first_row, int64_t panel, int64_t lane) {
        const PackedMatrix& weight = *args.weight;
        const int64_t features = weight.panel_features();
        const auto* weights = static_cast<const uint16_t*>(weight.data()) + panel * features * kPanelColumns;
        F32 low[kRows][kStrips], high[kRows][kStrips];
        add_all(weights + lane * kFeaturesALine, features, RowPointers<kRows, Bf16Input>(args.x, first_row), low, high);
        for (int s = 0; s < kStrips; ++s)
            for (int r = 0; r < kRows; ++r)
                finish(args.output, weight.panels(), first_row + r, panel, lane + s * kWidth, low[r][s], high[r][s]);
    }

    static void add_all(const uint16_t* weights, int64_t features, RowPointers<kRows, Bf16Input> x,
                        F32 (&low_sums)[kRows][kStrips], F32 (&high_sums)[kRows][kStrips]) {
        F32 low[kRows][kStrips], high[kRows][kStrips];
        for (int r = 0; r < kRows; ++r)
            for (int s = 0; s < kStrips; ++s) low[r][s] = high[r][s] = zero();
        for (int64_t k = 0; k < features; k += PackedMatrix::kPairedFeaturesAStep) {
#pragma GCC unroll 4
            for (int line = 0; line < kLinesAStep; ++line) {
                prefetch_weights<kRows>(weights);
#pragma GCC unroll 4
                for (int s = 0; s < kStrips; ++s) {
                    const uint16_t* strip = weights + s * kWidth * kFeaturesALine;
                    const Bf16Pairs w_low = load_pairs(strip), w_high = load_pairs(strip + kLineItems / 2);
#pragma GCC unroll 12
                    for (int r = 0; r < kRows; ++r) {
                        const Bf16Pairs pair = broadcast_pair(x.at(r, line * kFeaturesALine));
                        low[r][s] = add_products(low[r][s], w_low, pair);
                        high[r][s] = add_products(high[r][s], w_high, pair);
                    }
                }
                weights += kLineItems;
            }
            x.advance(PackedMatrix::kPairedFeaturesAStep);
        }
        for (int r = 0; r < kRows; ++r)
            for (int s = 0; s < kStrips; ++s) low_sums[r][s] = low[r][s], high_sums[r][s] = high[r][s];
    }
};

}  // namespace

void bf16_linear(const LinearArgs& args) {
    run_linear<Bf16Kernel, kMaxRows>(Product{args.weight, round_rows(args, args.weight->panel_features()), args.output});
}

}  // namespace octavo::OCTAVO_ISA
