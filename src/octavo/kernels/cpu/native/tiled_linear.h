// What the linear layers share that multiply tiles (tiles.h). Include in .isa.cc files only.
//
// A panel of weights is lines of 128 bytes, each with four bytes of every column: sixteen lines are two tiles of
// weights, one for each half of the panel. Sixteen rows of activations of 64 bytes are a tile, too. So a step
// multiplies 64 bytes of up to 32 rows with a panel; the sums stay in four tiles while it walks the input features:
//
//   tiles 0 and 1   sums of the first sixteen rows, for both halves of the panel     4   those rows of activations
//   tiles 2 and 3   the same for the other rows, if there are any                    5   those rows
//   tiles 6 and 7   sixteen lines of weights
#pragma once

#include "rounded_tiles.h"
#include "tiles.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kRowsABlock = 2 * kTileRows;
static_assert(kLineBytes == 4 * kPanelColumns && kLineBytes == 2 * kTileBytes && kHalfPanel * 4 == kTileBytes && kHalfPanel == kWidth);

// What a line has of each column: four whole numbers, or two of bf16. `Sum` is of 32 bits.
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

// The rows of activations of a block.
struct BlockRows {
    const char* values;
    int64_t stride;  // in bytes
    int64_t first, count;

    bool fill_one_tile() const { return count <= kTileRows; }
};

// The sums of a block of rows and both halves of a panel.
template <typename Sum>
struct alignas(64) BlockSums {
    Sum of[2][kRowsABlock][kHalfPanel];
};

// For steps of `step_bytes` of a row of activations, at most 64.
inline TileShapes shapes_of_block(int64_t num_rows, int64_t step_bytes) {
    const int64_t num_first = smaller(num_rows, kTileRows), num_others = num_rows - num_first;
    TileShapes shapes;
    for (int half = 0; half < 2; ++half) {
        shapes.set(0 + half, num_first, kTileBytes);
        shapes.set(2 + half, num_others, kTileBytes);
        shapes.set(6 + half, step_bytes / 4, kTileBytes);
    }
    shapes.set(4, num_first, step_bytes);
    shapes.set(5, num_others, step_bytes);
    return shapes;
}

template <bool kHasOtherRows>
void clear_sums(TileRegisters& tiles) {
    tiles.zero<0>();
    tiles.zero<1>();
    if constexpr (kHasOtherRows) {
        tiles.zero<2>();
        tiles.zero<3>();
    }
}

// Add the products of a step: of the rows' bytes from `offset` on, and the lines at `lines`.
template <typename Numbers, bool kHasOtherRows>
void add_step(TileRegisters& tiles, const BlockRows& rows, int64_t offset, const void* lines) {
    const char* x = rows.values + offset;
    tiles.load<6>(lines, kLineBytes);
    tiles.load<4>(x, rows.stride);
    Numbers::template multiply<0, 4, 6>(tiles);
    tiles.load<7>(static_cast<const char*>(lines) + kTileBytes, kLineBytes);
    Numbers::template multiply<1, 4, 7>(tiles);
    if constexpr (kHasOtherRows) {
        tiles.load<5>(x + kTileRows * rows.stride, rows.stride);
        Numbers::template multiply<2, 5, 6>(tiles);
        Numbers::template multiply<3, 5, 7>(tiles);
    }
}

template <bool kHasOtherRows, typename Sum>
void store_sums(TileRegisters& tiles, BlockSums<Sum>& sums) {
    tiles.store<0>(sums.of[0], kTileBytes);
    tiles.store<1>(sums.of[1], kTileBytes);
    if constexpr (kHasOtherRows) {
        tiles.store<2>(sums.of[0] + kTileRows, kTileBytes);
        tiles.store<3>(sums.of[1] + kTileRows, kTileBytes);
    }
}

inline void write_rows(const StripOutput& output, const BlockRows& rows, const BlockSums<float>& sums) {
    for (int64_t r = 0; r < rows.count; ++r)
        output.write(rows.first + r, load(sums.of[0][r]), load(sums.of[1][r]));
}

// Call body(tiles, rows, panel) for all blocks of rows of x and all panels, with tiles for steps of `step_bytes`.
template <typename Rows, typename Weight, typename Body>
void for_each_block(const Rows& x, const Weight& weight, int64_t step_bytes, const Body& body) {
    const int64_t num_panels = weight.panels().count();
    if (x.num_rows == 0 || num_panels == 0) return;
    const Division division(x.num_rows, kRowsABlock, num_panels, weight.panel_bytes());
    division.run([&](const Pass& pass) {
        const int64_t first = division.first_row(pass.block), count = division.rows_of(pass.block);
        const int64_t stride = x.stride * static_cast<int64_t>(sizeof *x.values);
        const BlockRows rows{reinterpret_cast<const char*>(x.values) + first * stride, stride, first, count};
        prefetch_rows(x, first, count);
        TileRegisters tiles(shapes_of_block(count, step_bytes));
        for (int64_t panel = pass.first_panel; panel < pass.end_panel; ++panel) body(tiles, rows, panel);
    });
}

template <typename Numbers, bool kHasOtherRows>
void multiply_panel(TileRegisters& tiles, const BlockRows& rows, const char* lines, int64_t num_lines,
                    BlockSums<typename Numbers::Sum>& sums) {
    clear_sums<kHasOtherRows>(tiles);
    const int64_t num_whole = num_lines / kTileRows * kTileRows;
    for (int64_t line = 0; line < num_whole; line += kTileRows) {
        const char* p = lines + line * kLineBytes;
        for (int i = 0; i < kTileRows; ++i) prefetch_line<kPrefetchBytes>(p + i * kLineBytes);
        add_step<Numbers, kHasOtherRows>(tiles, rows, line * 4, p);
    }
    if (num_whole < num_lines) {
        // What follows in memory is another panel, and not all of its numbers give zero times zero.
        alignas(64) char rest[kTileRows * kLineBytes] = {};
        std::memcpy(rest, lines + num_whole * kLineBytes, (num_lines - num_whole) * kLineBytes);
        add_step<Numbers, kHasOtherRows>(tiles, rows, num_whole * 4, rest);
    }
    store_sums<kHasOtherRows>(tiles, sums);
}

// Multiply all rows of x, which are zero up to a multiple of 64 bytes, with all panels of a weight that is lines and
// nothing else. Then call finish(rows, panel, sums) for each block of rows and each panel.
template <typename Numbers, typename Rows, typename Weight, typename Finish>
void run_tiled_linear(const Rows& x, const Weight& weight, const Finish& finish) {
    const int64_t panel_bytes = weight.panel_bytes();
    const char* weights = static_cast<const char*>(static_cast<const void*>(weight.data()));
    for_each_block(x, weight, kTileBytes, [&](TileRegisters& tiles, const BlockRows& rows, int64_t panel) {
        const auto multiply = rows.fill_one_tile() ? multiply_panel<Numbers, false> : multiply_panel<Numbers, true>;
        BlockSums<typename Numbers::Sum> sums;
        multiply(tiles, rows, weights + panel * panel_bytes, panel_bytes / kLineBytes, sums);
        finish(rows, panel, sums);
    });
}

}  // namespace octavo::OCTAVO_ISA
