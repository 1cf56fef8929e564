// What the linear layers share that multiply tiles (tiles.h). Include in .isa.cc files only.
//
// A panel of weights is stored as lines of 128 bytes, each with four bytes of every column: sixteen lines are two tiles of
// weights, one for each half of the panel. Sixteen rows of activations of 64 bytes are a tile, too. So a step multiplies 64
// bytes of up to 32 rows with a panel; the sums stay in four tiles while it walks the input features:
//
//   tiles 0 and 1   sums of the first sixteen rows, for both halves of the panel     4   those rows of activations
//   tiles 2 and 3   the same for the other rows, if there are any                    5   those rows
//   tiles 6 and 7   sixteen lines of weights
#pragma once

#include "rounded_tiles.h"
#include "tiles.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kRowsABlock = 2 * kTileRows;
constexpr int64_t kLineBytes = 4 * kPanelColumns;
static_assert(kLineBytes == 2 * kTileBytes && kHalfPanel * 4 == kTileBytes);

// What one line of a panel has of each column: four whole numbers, or two of bf16. `Sum` is of 32 bits.
struct Quads {
    using Sum = int32_t;
    template <int kSums, int kA, int kB>
    static void multiply(TileRegisters& tiles) {
        tiles.multiply_int8<kSums, kA, kB>();
    }
};
struct Pairs {
    using Sum = float;
    template <int kSums, int kA, int kB>
    static void multiply(TileRegisters& tiles) {
        tiles.multiply_bf16<kSums, kA, kB>();
    }
};

// The sums of a block of rows and a panel: columns of the first half of the panel, and of the second.
template <typename Sum>
struct alignas(64) BlockSums {
    Sum low[kRowsABlock][kHalfPanel], high[kRowsABlock][kHalfPanel];
};

// The rows of activations of a block; `stride` is in bytes. They are zero up to a multiple of 64 bytes.
struct BlockRows {
    const char* values;
    int64_t stride, count;
};

inline TileShapes shapes_of_block(int64_t num_rows) {
    constexpr int kOfFirstRows[] = {0, 1, 4}, kOfOtherRows[] = {2, 3, 5}, kOfWeights[] = {6, 7};
    const int64_t num_first = smaller(num_rows, kTileRows);
    TileShapes shapes;
    for (const int tile : kOfFirstRows) shapes.set(tile, num_first);
    for (const int tile : kOfOtherRows) shapes.set(tile, num_rows - num_first);
    for (const int tile : kOfWeights) shapes.set(tile, kTileRows);
    return shapes;
}

template <typename Numbers, bool kHasOtherRows>
void add_lines(TileRegisters& tiles, const BlockRows& rows, int64_t offset, const char* lines) {
    const char* x = rows.values + offset;
    tiles.load<6>(lines, kLineBytes);
    tiles.load<4>(x, rows.stride);
    Numbers::template multiply<0, 4, 6>(tiles);
    tiles.load<7>(lines + kTileBytes, kLineBytes);
    Numbers::template multiply<1, 4, 7>(tiles);
    if constexpr (kHasOtherRows) {
        tiles.load<5>(x + kTileRows * rows.stride, rows.stride);
        Numbers::template multiply<2, 5, 6>(tiles);
        Numbers::template multiply<3, 5, 7>(tiles);
    }
}

template <typename Numbers, bool kHasOtherRows>
void multiply_panel(TileRegisters& tiles, const BlockRows& rows, const char* lines, int64_t num_lines,
                    BlockSums<typename Numbers::Sum>& sums) {
    tiles.zero<0>();
    tiles.zero<1>();
    if constexpr (kHasOtherRows) {
        tiles.zero<2>();
        tiles.zero<3>();
    }
    const int64_t num_whole = num_lines / kTileRows * kTileRows;
    for (int64_t line = 0; line < num_whole; line += kTileRows) {
        const char* p = lines + line * kLineBytes;
        for (int i = 0; i < kTileRows; ++i) prefetch_weights<1>(p + i * kLineBytes);
        add_lines<Numbers, kHasOtherRows>(tiles, rows, line * 4, p);
    }
    if (num_whole < num_lines) {
        // What follows in memory is another panel, and not all of its numbers give zero times zero.
        alignas(64) char rest[kTileRows * kLineBytes] = {};
        std::memcpy(rest, lines + num_whole * kLineBytes, (num_lines - num_whole) * kLineBytes);
        add_lines<Numbers, kHasOtherRows>(tiles, rows, num_whole * 4, rest);
    }
    tiles.store<0>(sums.low, kTileBytes);
    tiles.store<1>(sums.high, kTileBytes);
    if constexpr (kHasOtherRows) {
        tiles.store<2>(sums.low + kTileRows, kTileBytes);
        tiles.store<3>(sums.high + kTileRows, kTileBytes);
    }
}

// Multiply all rows of x with all panels of a weight, whose lines begin at `lines`; then call
// finish(row, panel, low, high) for each row and panel with the sums of the panel's halves.
template <typename Numbers, typename Rows, typename Weight, typename Finish>
void run_tiled_linear(const Rows& x, const Weight& weight, const Finish& finish) {
    const int64_t num_panels = weight.panels().count(), panel_bytes = weight.panel_bytes();
    if (x.num_rows == 0 || num_panels == 0) return;
    const Division division(x.num_rows, kRowsABlock, num_panels, panel_bytes);
    division.run([&](int64_t block, int64_t first_panel, int64_t end_panel) {
        const int64_t first_row = division.first_row(block), num_rows = division.rows_of(block);
        const int64_t stride = x.stride * static_cast<int64_t>(sizeof *x.values);
        const BlockRows rows{reinterpret_cast<const char*>(x.values) + first_row * stride, stride, num_rows};
        prefetch_rows(x, first_row, num_rows);
        TileRegisters tiles(shapes_of_block(num_rows));
        BlockSums<typename Numbers::Sum> sums;
        for (int64_t panel = first_panel; panel < end_panel; ++panel) {
            const char* lines = static_cast<const char*>(static_cast<const void*>(weight.data())) + panel * panel_bytes;
            if (num_rows > kTileRows)
                multiply_panel<Numbers, true>(tiles, rows, lines, panel_bytes / kLineBytes, sums);
            else
                multiply_panel<Numbers, false>(tiles, rows, lines, panel_bytes / kLineBytes, sums);
            for (int64_t r = 0; r < num_rows; ++r) finish(first_row + r, panel, sums.low[r], sums.high[r]);
        }
    });
}

}  // namespace octavo::OCTAVO_ISA
