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

    static void run(const Product& args, int64_t first_row, int64_t panel, const Pass& pass) {
        const PackedMatrix& weight = *args.weight;
        const auto* weights =
            static_cast<const uint16_t*>(weight.data()) + panel * weight.panel_features() * kPanelColumns;
        Ahead<kRows> ahead(pass, weights, weight.panel_bytes(), kStripsPerPanel / kStrips);
        for (int strip = 0; strip < kStripsPerPanel; strip += kStrips)
            run_strips(args, first_row, panel, strip * kWidth, weights, ahead);
    }

    static void run_strips(const Product& args, int64_t first_row, int64_t panel, int64_t lane,
                           const uint16_t* weights, Ahead<kRows>& ahead) {
        const PackedMatrix& weight = *args.weight;
        alignas(64) float sums[kRows][kStrips][2][kWidth];
        add_all(weights + lane * kFeaturesALine, weight.panel_features(),
                RowPointers<kRows, Bf16Input>(args.x, first_row), ahead, sums);
        for (int s = 0; s < kStrips; ++s) {
            const StripOutput output(args.output, weight.panels(), panel, lane + s * kWidth);
            for (int r = 0; r < kRows; ++r) output.write(first_row + r, load(sums[r][s][0]), load(sums[r][s][1]));
        }
    }

    // Sums in registers while they grow, and then in memory, where a loop over the rows finds them.
    static void add_all(const uint16_t* weights, int64_t features, RowPointers<kRows, Bf16Input> x,
                        Ahead<kRows>& ahead_of_all,
                        float (&sums)[kRows][kStrips][2][kWidth]) {
        Ahead<kRows> ahead = ahead_of_all;
        F32 low[kRows][kStrips], high[kRows][kStrips];
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int s = 0; s < kStrips; ++s) low[r][s] = high[r][s] = zero();
        for (int64_t k = 0; k < features; k += PackedMatrix::kPairedFeaturesAStep) {
#pragma GCC unroll 4
            for (int line = 0; line < kLinesAStep; ++line) {
                ahead.fetch(weights);
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
        ahead_of_all = ahead;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int s = 0; s < kStrips; ++s) {
                store(sums[r][s][0], low[r][s]);
                store(sums[r][s][1], high[r][s]);
            }
    }
};

}  // namespace

void bf16_linear(const LinearArgs& args) {
    run_linear<Bf16Kernel, kMaxRows>(Product{args.weight, round_rows(args, args.weight->panel_features()), args.output});
}

}  // namespace octavo::OCTAVO_ISA
