// Registers of AMX: tiles of up to 16 rows of 64 bytes. Include in .isa.cc files only.
//
// A TileRegisters is the calling thread's eight tiles. They have shapes from its beginning on and are given back at its
// end; there is one at a time, and it begins and ends in one task. Tiles are named by their numbers:
//
//   TileRegisters tiles(shapes)
//   zero<kTile>()
//   load<kTile>(p, stride), store<kTile>(p, stride)    rows are `stride` bytes apart
//   multiply_int8<kSums, kA, kB>()   sums[m][n] += a[m][4k + i] * b[k][4n + i] over k and i: int32, int8 and uint8
//   multiply_bf16<kSums, kA, kB>()   sums[m][n] += a[m][2k + i] * b[k][2n + i]: fp32, bf16 and bf16
//
// Products are of the quads, or pairs, of each row of A with those of each column of B, whose row k has quad k of all
// columns. In fp32, the products of the first numbers of all pairs have a sum of their own and those of the second
// ones, too; these are added to each other, and then to what was there. Subnormal numbers are taken as zero and made
// zero. A row of sums depends on the same row of A alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo::OCTAVO_ISA {

constexpr int kNumTiles = 8, kTileRows = 16, kTileBytes = 64;

// As the processor reads it. Tiles that are not used have neither rows nor bytes.
struct alignas(64) TileShapes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void set(int tile, int64_t num_rows, int64_t num_row_bytes) {
        rows[tile] = static_cast<uint8_t>(num_rows);
        row_bytes[tile] = static_cast<uint16_t>(num_rows ? num_row_bytes : 0);
    }
};
static_assert(sizeof(TileShapes) == 64 && offsetof(TileShapes, row_bytes) == 16 && offsetof(TileShapes, rows) == 48);

}  // namespace octavo::OCTAVO_ISA

#if defined(OCTAVO_ISA_amx)
#include "tiles_amx.h"
#else
#include "tiles_model.h"
#endif
