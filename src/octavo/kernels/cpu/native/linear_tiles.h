// What the linear layers over all formats of weights share: how the work is divided, and what follows the sums. Include
// in .isa.cc files only.
#pragma once

#include "integers.h"
#include "kernel.h"
#include "linear_output.h"
#include "panels.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

// A strip is what one load of weights covers: kWidth columns of a panel's first half and the same columns of its second.
constexpr int kStripsPerPanel = kHalfPanel / kWidth;

// What a thread computes at a time: a block of rows with some panels. It is one of `num_passes` over these panels.
struct Pass {
    int64_t block, first_panel, end_panel;
    int64_t number, num_passes;
};

// How a product is divided: rows into blocks of about equal size, blocks into chunks, panels into groups. A task is
// a group of panels with a chunk of blocks. All blocks of a chunk pass by a few panels before the next ones have their turn.
struct Division {
    // Weights of a turn, which stay in the second-level cache. Few rows stay there, too, and each core should soon have
    // the weights of its first turn; many rows come from further away in each turn, so there should not be many turns.
    static constexpr int64_t kTurnBytes = 128 * 1024, kTurnBytesOfManyRows = 384 * 1024;
    static constexpr int64_t kManyBlocks = 12;
    static constexpr int kTasksPerThread = 8;

    int64_t num_rows, num_blocks, num_panels, panels_per_group, panels_per_turn, num_groups, num_chunks;

    Division(int64_t num_rows, int64_t max_rows_a_block, int64_t num_panels, int64_t panel_bytes)
        : num_rows(num_rows), num_blocks(divide_up(num_rows, max_rows_a_block)), num_panels(num_panels) {
        const int64_t num_threads = pool().num_threads();
        const int64_t wanted_tasks = num_threads == 1 ? 1 : num_threads * kTasksPerThread;
        panels_per_group = divide_up(num_panels, wanted_tasks);
        const int64_t turn_bytes = num_blocks < kManyBlocks ? kTurnBytes : kTurnBytesOfManyRows;
        panels_per_turn = num_blocks == 1 ? panels_per_group : larger(turn_bytes / (panel_bytes + 1), 1);
        num_groups = divide_up(num_panels, panels_per_group);
        num_chunks = smaller(num_blocks, divide_up(wanted_tasks, num_groups));
    }

    int64_t first_row(int64_t block) const { return block * num_rows / num_blocks; }
    int64_t rows_of(int64_t block) const { return first_row(block + 1) - first_row(block); }
    int64_t first_block(int64_t chunk) const { return chunk * num_blocks / num_chunks; }

    // Call body(pass) for all blocks of rows and all panels, on all threads.
    template <typename Body>
    void run(Body&& body) const {
        pool().parallel_for_streams(num_groups * num_chunks, [&](int64_t task) {
            const int64_t group = task / num_chunks, chunk = task % num_chunks;
            const int64_t first_panel = group * panels_per_group;
            const int64_t end_panel = smaller(first_panel + panels_per_group, num_panels);
            const int64_t begin = first_block(chunk), end = first_block(chunk + 1);
            for (int64_t panel = first_panel; panel < end_panel; panel += panels_per_turn)
                for (int64_t block = begin; block < end; ++block)
                    body(Pass{block, panel, smaller(panel + panels_per_turn, end_panel), block - begin, end - begin});
        });
    }
};

// The lanes of a vector that belong to columns before `end`.
inline int lanes_before(int64_t end, int64_t column) {
    const int64_t left = end - column;
    return left < 0 ? 0 : left < kWidth ? static_cast<int>(left) : kWidth;
}

// Where the results of a strip go, whose first column in the panel is `lane`: what is the same for all rows is found once.
class StripOutput {
  public:
    StripOutput(const LinearOutput& out, const Panels& panels, int64_t panel, int64_t lane)
        : out_(out), gated_(panels.gated) {
        const int64_t size = gated_ ? panels.out_features / 2 : panels.out_features;
        column_ = panel * (gated_ ? kHalfPanel : kPanelColumns) + lane;
        second_ = column_ + (gated_ ? size : kHalfPanel);
        num_low_ = lanes_before(size, column_);
        num_high_ = gated_ ? num_low_ : lanes_before(size, second_);
        is_whole_ = num_low_ == kWidth && num_high_ == kWidth;
    }

    // Finish one row: bias, residual, gate, store.
    [[gnu::always_inline]] void write(int64_t row, F32 low, F32 high) const {
        if (!is_whole_) return write_lanes(row, low, high);
        if (out_.bias) {
            low = low + load(out_.bias + column_);
            high = high + load(out_.bias + second_);
        }
        if (out_.residual) {
            const float* residual = out_.residual + row * out_.residual_stride;
            low = low + load(residual + column_);
            high = high + load(residual + second_);
        }
        float* y = out_.y + row * out_.y_stride;
        if (gated_) return store(y + column_, silu(low) * high);
        store(y + column_, low);
        store(y + second_, high);
    }

  private:
    // The same for a strip that reaches over the last column.
    void write_lanes(int64_t row, F32 low, F32 high) const {
        low = add_lanes(row, low, column_, num_low_);
        high = add_lanes(row, high, second_, num_high_);
        float* y = out_.y + row * out_.y_stride;
        if (gated_) return store_first(y + column_, silu(low) * high, num_low_);
        store_first(y + column_, low, num_low_);
        store_first(y + second_, high, num_high_);
    }

    F32 add_lanes(int64_t row, F32 sums, int64_t column, int n) const {
        if (n == 0) return sums;
        if (out_.bias) sums = sums + load_first(out_.bias + column, n);
        if (out_.residual) sums = sums + load_first(out_.residual + row * out_.residual_stride + column, n);
        return sums;
    }

    const LinearOutput& out_;
    int64_t column_, second_;
    int num_low_, num_high_;
    bool gated_, is_whole_;
};

}  // namespace octavo::OCTAVO_ISA
