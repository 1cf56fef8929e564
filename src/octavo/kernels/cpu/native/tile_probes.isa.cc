// bf16_probe.h and integer_probe.h with tiles: the four products of a step of a linear layer, again and again.

#include "bf16_probe.h"
#include "integer_probe.h"
#include "tiled_linear.h"

namespace octavo::OCTAVO_ISA {

namespace {

// `numbers_a_line`: what a line of weights has of each column.
template <typename Numbers>
int64_t multiply_tiles(int64_t steps, int64_t numbers_a_line) {
    const int64_t num_threads = pool().num_threads();
    pool().parallel_for(num_threads, [&](int64_t) {
        alignas(64) const char numbers[kRowsABlock * kTileBytes] = {};
        const BlockRows rows{numbers, kTileBytes, 0, kRowsABlock};
        TileRegisters tiles(shapes_of_block(kRowsABlock, kTileBytes));
        clear_sums<true>(tiles);
        add_step<Numbers, true>(tiles, rows, 0, numbers);
        for (int64_t step = 1; step < steps; ++step) {
            Numbers::template multiply<0, 4, 6>(tiles);
            Numbers::template multiply<1, 4, 7>(tiles);
            Numbers::template multiply<2, 5, 6>(tiles);
            Numbers::template multiply<3, 5, 7>(tiles);
        }
    });
    return num_threads * steps * kRowsABlock * kPanelColumns * kTileRows * numbers_a_line * 2;
}

}  // namespace

int64_t multiply_int8(int64_t steps) { return multiply_tiles<Quads>(steps, 4); }

int64_t multiply_bf16(int64_t steps) { return multiply_tiles<Pairs>(steps, 2); }

}  // namespace octavo::OCTAVO_ISA
