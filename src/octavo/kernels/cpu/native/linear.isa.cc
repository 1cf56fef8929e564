// linear.h for one instruction set.
//
// A few rows of x and some strips of a panel have their sums in registers while they walk the input features, in order
// and with one sum an element. So an element of y is the same bits whatever the number of rows or threads. One panel at
// a time: several streams of memory are slower than one.

#include "linear.h"

#include <utility>

#include "linear_tiles.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int kRegisters = kWidth == 16 ? 32 : 16;
constexpr int kMaxRows = kWidth == 16 ? 12 : 6;
// Features after which other strips of the panel have their turn, if not all fit in registers: so few that their cache
// lines, which the strips share, are still in the first level.
constexpr int64_t kFeaturesATurn = 128;
// Up to here x is read where it is; beyond, rows are interleaved first: they are often a power of two apart, and more
// than a few of them would fight for the same cache sets.
constexpr int kMaxRowsInPlace = 4;
// Far ahead, since the processor's own prefetching ends at each page.
constexpr int kPrefetchBytes = 8192;

// Strips whose sums stay in registers, beside a broadcast of x and two vectors of weights: for each strip, unless there is
// but one row, which takes them as they come.
template <int kRows>
constexpr int strips_at_once() {
    int strips = kStripsPerPanel;
    while (strips > 1 && 2 * strips * kRows + 2 * (kRows == 1 ? 1 : strips) + 1 > kRegisters) strips /= 2;
    return strips;
}

struct Fp32Weight {
    using Item = float;
    static constexpr int kItemsPerLane = 1;
    static void load_strip(const float* p, F32& low, F32& high) {
        low = load(p);
        high = load(p + kHalfPanel);
    }
};

struct Bf16Weight {
    using Item = uint16_t;
    static constexpr int kItemsPerLane = 2;
    static void load_strip(const uint16_t* p, F32& low, F32& high) { load_bf16_pairs(p, low, high); }
};

struct Fp16Weight {
    using Item = uint16_t;
    static constexpr int kItemsPerLane = 1;
    static void load_strip(const uint16_t* p, F32& low, F32& high) {
        low = load_f16(p);
        high = load_f16(p + kHalfPanel);
    }
};

// Consecutive rows of x that are computed together. Element [row][k] is at data[row * row_stride + k], or, interleaved,
// at data[k * num_rows + row].
struct RowBlock {
    int64_t first;
    const float* data;
    int64_t row_stride;
};

// Sums of a block's rows over a part of the features.
template <int kRows, int kStrips>
struct Sums {
    F32 low[kRows][kStrips], high[kRows][kStrips];
};

// Add the products of features [first, end); `weights` points to the strips' weights of the first one.
template <typename Weight, int kRows, int kStrips>
inline void accumulate(const typename Weight::Item* weights, const RowBlock& block, int64_t first, int64_t end,
                       Sums<kRows, kStrips>& result) {
    constexpr bool kInterleaved = kRows > kMaxRowsInPlace;
    const int64_t row_stride = kInterleaved ? 1 : block.row_stride;
    const float* x = block.data + first * (kInterleaved ? kRows : 1);
    Sums<kRows, kStrips> sums = result;
    for (int64_t k = first; k < end; ++k) {
        F32 w_low[kStrips], w_high[kStrips];
#pragma GCC unroll 4
        for (int s = 0; s < kStrips; ++s)
            Weight::load_strip(weights + s * kWidth * Weight::kItemsPerLane, w_low[s], w_high[s]);
        for (int line = 0; line < kPanelColumns * static_cast<int>(sizeof(*weights)); line += kCacheLine)
            prefetch(reinterpret_cast<const char*>(weights) + kPrefetchBytes + line);
        weights += kPanelColumns;
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            const F32 value = broadcast(x[r * row_stride]);
#pragma GCC unroll 4
            for (int s = 0; s < kStrips; ++s) {
                sums.low[r][s] = fma(value, w_low[s], sums.low[r][s]);
                sums.high[r][s] = fma(value, w_high[s], sums.high[r][s]);
            }
        }
        x += kInterleaved ? kRows : 1;
    }
    result = sums;
}

template <typename Weight, int kRows>
void compute_panel(const LinearArgs& args, const RowBlock& block, int64_t panel) {
    constexpr int kStrips = strips_at_once<kRows>(), kTurns = kStripsPerPanel / kStrips;
    const int64_t in_features = args.weight->in_features();
    const auto* weights =
        static_cast<const typename Weight::Item*>(args.weight->data()) + panel * in_features * kPanelColumns;
    Sums<kRows, kStrips> sums[kTurns];
    for (int turn = 0; turn < kTurns; ++turn)
        for (int r = 0; r < kRows; ++r)
            for (int s = 0; s < kStrips; ++s) sums[turn].low[r][s] = sums[turn].high[r][s] = zero();
    const int64_t step = kTurns == 1 ? in_features : kFeaturesATurn;
    for (int64_t first = 0; first < in_features; first += step) {
        const int64_t end = smaller(first + step, in_features);
        for (int turn = 0; turn < kTurns; ++turn)
            accumulate<Weight>(weights + first * kPanelColumns + turn * kStrips * kWidth * Weight::kItemsPerLane, block,
                               first, end, sums[turn]);
    }
    for (int turn = 0; turn < kTurns; ++turn)
        for (int s = 0; s < kStrips; ++s) {
            const StripOutput output(args.output, args.weight->panels(), panel, (turn * kStrips + s) * kWidth);
            for (int r = 0; r < kRows; ++r)
                output.write(block.first + r, sums[turn].low[r][s], sums[turn].high[r][s]);
        }
}

using ComputeBlock = void (*)(const LinearArgs& args, const RowBlock& block, int64_t first_panel, int64_t end_panel);

template <typename Weight, int kRows>
void compute_block(const LinearArgs& args, const RowBlock& block, int64_t first_panel, int64_t end_panel) {
    for (int64_t panel = first_panel; panel < end_panel; ++panel) compute_panel<Weight, kRows>(args, block, panel);
}

template <typename Weight, int... kRowsLessOne>
ComputeBlock choose_block(int64_t num_rows, std::integer_sequence<int, kRowsLessOne...>) {
    static constexpr ComputeBlock table[] = {compute_block<Weight, kRowsLessOne + 1>...};
    return table[num_rows - 1];
}

ComputeBlock choose_block(WeightType type, int64_t num_rows) {
    constexpr std::make_integer_sequence<int, kMaxRows> rows;
    switch (type) {
        case WeightType::bf16:
            return choose_block<Bf16Weight>(num_rows, rows);
        case WeightType::fp16:
            return choose_block<Fp16Weight>(num_rows, rows);
        default:
            return choose_block<Fp32Weight>(num_rows, rows);
    }
}

void interleave(const LinearArgs& args, int64_t first, int64_t num_rows, float* out) {
    const float* x = args.x + first * args.x_stride;
    const int64_t in_features = args.weight->in_features();
    for (int64_t k = 0; k < in_features; ++k)
        for (int64_t row = 0; row < num_rows; ++row) *out++ = x[row * args.x_stride + k];
}

}  // namespace

void linear(const LinearArgs& args) {
    const PackedMatrix& weight = *args.weight;
    if (args.num_rows == 0 || weight.panels().count() == 0) return;
    const Division division(args.num_rows, kMaxRows, weight.panels().count(), weight.panel_bytes());
    const int64_t in_features = weight.in_features();
    float* interleaved = nullptr;
    if (args.num_rows > kMaxRowsInPlace) {
        interleaved = static_cast<float*>(scratch(args.num_rows * in_features * sizeof(float)));
        pool().parallel_for(division.num_blocks, [&](int64_t block) {
            const int64_t first = division.first_row(block), num_rows = division.rows_of(block);
            if (num_rows > kMaxRowsInPlace) interleave(args, first, num_rows, interleaved + first * in_features);
        });
    }
    division.run([&](const Pass& pass) {
        const int64_t first = division.first_row(pass.block), num_rows = division.rows_of(pass.block);
        const bool in_place = num_rows <= kMaxRowsInPlace;
        const float* data = in_place ? args.x + first * args.x_stride : interleaved + first * in_features;
        choose_block(weight.type(), num_rows)(args, {first, data, args.x_stride}, pass.first_panel, pass.end_panel);
    });
}

}  // namespace octavo::OCTAVO_ISA
