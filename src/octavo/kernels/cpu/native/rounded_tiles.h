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
constexpr int kLineBytes = 128;

// Bring the line that is kAhead bytes after p into the first level.
template <int kAhead>
inline void prefetch_line(const void* p) {
    for (int byte = 0; byte < kLineBytes; byte += kCacheLine) prefetch(static_cast<const char*>(p) + kAhead + byte);
}

// Fetches weights while others are multiplied: some to the first level, which come soon, and others to the second, evenly, so that
// memory is not idle. Each of the passes over the same panels fetches a share of the panels that come next.
template <int kRows>
class Ahead {
  public:
    // `weights` is the panel that this pass is at, and num_turns how many times it goes over its lines.
    Ahead(const Pass& pass, const void* weights, int64_t panel_bytes, int num_turns)
        : next_(static_cast<const char*>(weights)), advance_(kLineBytes / num_turns) {
        const int64_t num_shares = smaller(pass.num_passes, kMostShares);
        const int64_t share = pass.number * num_shares / pass.num_passes;
        if (pass.num_passes == 1) {
            next_ += num_turns == 1 ? kFarPrefetchBytes : panel_bytes;
        } else if (pass.number == 0 || share > (pass.number - 1) * num_shares / pass.num_passes) {
            next_ += (pass.end_panel - pass.first_panel) * panel_bytes + panel_bytes * share / num_shares;
            advance_ /= num_shares;
        }  // else another pass has this share: what is in the first level already costs nothing to fetch
    }

    // Called for each line of the panel, with its address.
    void fetch(const void* line) {
        prefetch_line<kRows < kRowsThatFillCache ? kPrefetchBytes : kNearPrefetchBytes>(line);
        if constexpr (kRows >= kRowsThatFillCache)
            for (int byte = 0; byte < kLineBytes; byte += kCacheLine) prefetch_l2(next_ + byte);
        next_ += advance_;
    }

  private:
    static constexpr int64_t kMostShares = 8;

    const char* next_;
    int64_t advance_;
};

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

// Kernel<kRows>::run(args, first_row, panel, pass), for the number of rows that a block has.
template <template <int> typename Kernel, typename Args, int... kRowsLessOne>
void run_panels(const Args& args, int64_t num_rows, int64_t first_row, const Pass& pass,
                std::integer_sequence<int, kRowsLessOne...>) {
    using Run = void (*)(const Args& args, int64_t first_row, int64_t panel, const Pass& pass);
    static constexpr Run table[] = {Kernel<kRowsLessOne + 1>::run...};
    const Run run = table[num_rows - 1];
    for (int64_t panel = pass.first_panel; panel < pass.end_panel; ++panel) run(args, first_row, panel, pass);
}

// Up to kMaxRows rows are one block, more are blocks of at most `rows_a_block`.
template <template <int> typename Kernel, int kMaxRows, typename Args>
void run_linear(const Args& args, int64_t rows_a_block = kMaxRows) {
    const int64_t num_panels = args.weight->panels().count();
    if (args.x.num_rows == 0 || num_panels == 0) return;
    const int64_t most_rows = args.x.num_rows <= kMaxRows ? kMaxRows : rows_a_block;
    const Division division(args.x.num_rows, most_rows, num_panels, args.weight->panel_bytes());
    division.run([&](const Pass& pass) {
        const int64_t first_row = division.first_row(pass.block), num_rows = division.rows_of(pass.block);
        prefetch_rows(args.x, first_row, num_rows);
        run_panels<Kernel>(args, num_rows, first_row, pass, std::make_integer_sequence<int, kMaxRows>());
    });
}

}  // namespace octavo::OCTAVO_ISA
