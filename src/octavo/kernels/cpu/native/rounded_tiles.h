// What the linear layers share whose activations are rounded before the product. Include in .isa.cc files only.
//
// `Rows` are rounded activations: num_rows, values, and the stride from one row to the next in values.
#pragma once

#include <utility>

#include "linear_tiles.h"

namespace octavo::OCTAVO_ISA {

// Far ahead, since the processor's own prefetching ends at each page.
constexpr int kPrefetchBytes = 8192;
// From so many rows on, weights wait in the second level, where they do not push the activations out of the first.
constexpr int kRowsThatFillCache = 6;
constexpr int kFarPrefetchBytes = 16384, kNearPrefetchBytes = 2048;

// Bring in what follows the line at p, 128 bytes.
template <int kRows>
inline void prefetch_weights(const void* p) {
    const char* line = static_cast<const char*>(p);
    for (int half = 0; half < 128; half += 64) {
        if constexpr (kRows < kRowsThatFillCache) {
            prefetch(line + kPrefetchBytes + half);
        } else {
            prefetch(line + kNearPrefetchBytes + half);
            prefetch_l2(line + kFarPrefetchBytes + half);
        }
    }
}

// Rows that another core rounded are in its cache: fetched all together, they come as fast as memory.
template <typename Rows>
inline void prefetch_rows(const Rows& x, int64_t first_row, int64_t num_rows) {
    const auto* end = x.values + (first_row + num_rows) * x.stride;
    for (const auto* p = x.values + first_row * x.stride; p < end; p += 64 / sizeof(*p)) prefetch(p);
}

// Where a block's rows of activations are. One pointer for three rows: the processor adds a stride, or two, to it as it
// loads, and more pointers would not fit its registers.
template <int kRows, typename Value>
struct RowPointers {
    static constexpr int kRowsAPointer = 3;
    static constexpr int kPointers = (kRows + kRowsAPointer - 1) / kRowsAPointer;
    const Value* pointers[kPointers];
    int64_t stride;

    template <typename Rows>
    RowPointers(const Rows& x, int64_t first_row) : stride(x.stride) {
        for (int i = 0; i < kPointers; ++i) pointers[i] = x.values + (first_row + i * kRowsAPointer) * stride;
    }
    const Value* at(int row, int feature) const {
        return pointers[row / kRowsAPointer] + row % kRowsAPointer * stride + feature;
    }
    void advance(int64_t features) {
        for (int i = 0; i < kPointers; ++i) pointers[i] += features;
    }
};

// Kernel<kRows>::run(args, first_row, panel), for the number of rows that a block has.
template <template <int> typename Kernel, typename Args, int... kRowsLessOne>
void run_panels(const Args& args, int64_t num_rows, int64_t first_row, int64_t first_panel, int64_t end_panel,
                std::integer_sequence<int, kRowsLessOne...>) {
    using Run = void (*)(const Args& args, int64_t first_row, int64_t panel);
    static constexpr Run table[] = {Kernel<kRowsLessOne + 1>::run...};
    const Run run = table[num_rows - 1];
    for (int64_t panel = first_panel; panel < end_panel; ++panel) run(args, first_row, panel);
}

// Up to kMaxRows rows are one block, more are blocks of at most `rows_a_block`.
template <template <int> typename Kernel, int kMaxRows, typename Args>
void run_linear(const Args& args, int64_t rows_a_block = kMaxRows) {
    const int64_t num_panels = args.weight->panels().count();
    if (args.x.num_rows == 0 || num_panels == 0) return;
    const int64_t most_rows = args.x.num_rows <= kMaxRows ? kMaxRows : rows_a_block;
    const Division division(args.x.num_rows, most_rows, num_panels, args.weight->panel_bytes());
    division.run([&](int64_t block, int64_t first_panel, int64_t end_panel) {
        prefetch_rows(args.x, division.first_row(block), division.rows_of(block));
        run_panels<Kernel>(args, division.rows_of(block), division.first_row(block), first_panel, end_panel,
                           std::make_integer_sequence<int, kMaxRows>());
    });
}

}  // namespace octavo::OCTAVO_ISA
