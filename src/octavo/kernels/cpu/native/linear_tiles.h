// What the linear layers over all formats of weights share: how the work is divided, and what follows the sums. Include
// in .isa.cc files only.
#pragma once

#include "kernel.h"
#include "linear_output.h"
#include "panels.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

// A strip is what one load of weights covers: kWidth columns of a panel's first half and the same columns of its second.
constexpr int kStripsPerPanel = kHalfPanel / kWidth;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// How a product is divided: rows into blocks of about equal size, blocks into chunks, panels into groups. A task is
// a group of panels with a chunk of blocks.
struct Division {
    // Weights that stay in the second-level cache while all rows pass by.
    static constexpr int64_t kGroupBytes = 384 * 1024;
    static constexpr int kTasksPerThread = 8;

    int64_t num_rows, num_blocks, num_panels, panels_per_group, num_groups, num_chunks;

    Division(int64_t num_rows, int64_t max_rows_a_block, int64_t num_panels, int64_t panel_bytes)
        : num_rows(num_rows), num_blocks(divide_up(num_rows, max_rows_a_block)), num_panels(num_panels) {
        const int64_t num_threads = pool().num_threads();
        const int64_t wanted_tasks = num_threads == 1 ? 1 : num_threads * kTasksPerThread;
        panels_per_group = divide_up(num_panels, wanted_tasks);
        if (num_blocks > 1)
            panels_per_group = smaller(panels_per_group, divide_up(kGroupBytes, panel_bytes + 1));
        num_groups = divide_up(num_panels, panels_per_group);
        num_chunks = smaller(num_blocks, divide_up(wanted_tasks, num_groups));
    }

    int64_t first_row(int64_t block) const { return block * num_rows / num_blocks; }
    int64_t rows_of(int64_t block) const { return first_row(block + 1) - first_row(block); }
    int64_t first_block(int64_t chunk) const { return chunk * num_blocks / num_chunks; }

    // Call body(block, first_panel, end_panel) for all blocks of rows and all panels, on all threads.
    template <typename Body>
    void run(Body&& body) const {
        pool().parallel_for_streams(num_groups * num_chunks, [&](int64_t task) {
            const int64_t group = task / num_chunks, chunk = task % num_chunks;
            const int64_t first_panel = group * panels_per_group;
            const int64_t end_panel = smaller(first_panel + panels_per_group, num_panels);
            for (int64_t block = first_block(chunk); block < first_block(chunk + 1); ++block)
                body(block, first_panel, end_panel);
        });
    }
};

// The lanes of a vector that belong to columns before `end`.
inline int lanes_before(int64_t end, int64_t column) {
    const int64_t left = end - column;
    return left < 0 ? 0 : left < kWidth ? static_cast<int>(left) : kWidth;
}

inline F32 load_lanes(const float* p, int n) { return n == kWidth ? load(p) : load_first(p, n); }

inline void store_lanes(float* p, F32 v, int n) {
    if (n == kWidth)
        store(p, v);
    else
        store_first(p, v, n);
}

inline F32 with_bias(const LinearOutput& out, F32 sums, int64_t column, int n) {
    return out.bias ? sums + load_lanes(out.bias + column, n) : sums;
}

inline F32 with_residual(const LinearOutput& out, F32 result, int64_t row, int64_t column, int n) {
    return out.residual ? result + load_lanes(out.residual + row * out.residual_stride + column, n) : result;
}

inline void store_result(const LinearOutput& out, int64_t row, int64_t column, F32 result, int n) {
    store_lanes(out.y + row * out.y_stride + column, with_residual(out, result, row, column, n), n);
}

// Finish one row of the strip whose first column in the panel is `lane`: bias, residual, gate, store.
inline void finish(const LinearOutput& out, const Panels& panels, int64_t row, int64_t panel, int64_t lane, F32 low,
                   F32 high) {
    if (panels.gated) {
        const int64_t size = panels.out_features / 2, column = panel * kHalfPanel + lane;
        const int n = lanes_before(size, column);
        const F32 gate = with_residual(out, with_bias(out, low, column, n), row, column, n);
        const F32 up = with_residual(out, with_bias(out, high, size + column, n), row, size + column, n);
        store_lanes(out.y + row * out.y_stride + column, silu(gate) * up, n);
    } else {
        const int64_t column = panel * kPanelColumns + lane, second = column + kHalfPanel;
        const int n = lanes_before(panels.out_features, column), m = lanes_before(panels.out_features, second);
        store_result(out, row, column, with_bias(out, low, column, n), n);
        store_result(out, row, second, with_bias(out, high, second, m), m);
    }
}

}  // namespace octavo::OCTAVO_ISA
