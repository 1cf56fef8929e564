// encoder_elementwise.h for one instruction set.

#include "encoder_elementwise.h"

#include "kernel.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr int64_t kValuesPerTask = 16384;

int lanes_left(int64_t size, int64_t i) { return static_cast<int>(size - i < kWidth ? size - i : kWidth); }

// erf(v) to about 2e-7 (Abramowitz and Stegun, formula 7.1.26).
inline F32 erf(F32 v) {
    v = min(broadcast(10.0f), max(broadcast(-10.0f), v));  // where it is 1 or -1; the second operand wins where it is NaN
    const F32 size = max(zero() - v, v);
    const F32 t = broadcast(1.0f) / fma(broadcast(0.3275911f), size, broadcast(1.0f));
    F32 p = broadcast(1.061405429f);
    p = fma(p, t, broadcast(-1.453152027f));
    p = fma(p, t, broadcast(1.421413741f));
    p = fma(p, t, broadcast(-0.284496736f));
    p = fma(p, t, broadcast(0.254829592f));
    const F32 result = broadcast(1.0f) - p * t * exp(zero() - size * size);
    // The sign of v, without a branch: beyond 1e-18 the quotient is 1 or -1, and around 0 so is nothing lost.
    return result * (v / max(size, broadcast(1e-18f)));
}

inline F32 gelu_of(F32 v) {
    return broadcast(0.5f) * v * (broadcast(1.0f) + erf(v * broadcast(0.70710678f)));
}

void normalise_row(const LayerNormArgs& args, int64_t row) {
    const float* x = args.x + row * args.size;
    const float* residual = args.residual ? args.residual + row * args.size : nullptr;
    float* y = args.y + row * args.size;
    F32 total = zero();
    for (int64_t i = 0; i < args.size; i += kWidth) {
        const int n = lanes_left(args.size, i);
        F32 v = load_first(x + i, n);
        if (residual) v = v + load_first(residual + i, n);
        store_first(y + i, v, n);
        total = total + v;
    }
    const float mean = sum(total) / static_cast<float>(args.size);
    F32 squares = zero();
    for (int64_t i = 0; i < args.size; i += kWidth) {
        const int n = lanes_left(args.size, i);
        const F32 v = load_first(y + i, n) - broadcast(mean);
        store_first(y + i, v, n);
        const F32 kept = load_first(y + i, n);  // lanes beyond the row are 0 again
        squares = fma(kept, kept, squares);
    }
    const F32 variance = broadcast(sum(squares) / static_cast<float>(args.size) + args.eps);
    const F32 factor = broadcast(1.0f) / sqrt(variance);
    for (int64_t i = 0; i < args.size; i += kWidth) {
        const int n = lanes_left(args.size, i);
        const F32 v = load_first(y + i, n) * factor;
        store_first(y + i, fma(v, load_first(args.weight + i, n), load_first(args.bias + i, n)), n);
    }
}

}  // namespace

void layer_norm(const LayerNormArgs& args) {
    pool().parallel_for((args.num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task) {
        const int64_t end = (task + 1) * kRowsPerTask < args.num_rows ? (task + 1) * kRowsPerTask : args.num_rows;
        for (int64_t row = task * kRowsPerTask; row < end; ++row) normalise_row(args, row);
    });
}

void gelu(const GeluArgs& args) {
    pool().parallel_for((args.count + kValuesPerTask - 1) / kValuesPerTask, [&](int64_t task) {
        const int64_t first = task * kValuesPerTask;
        const int64_t end = first + kValuesPerTask < args.count ? first + kValuesPerTask : args.count;
        for (int64_t i = first; i < end; i += kWidth) {
            const int n = lanes_left(end, i);
            store_first(args.y + i, gelu_of(load_first(args.x + i, n)), n);
        }
    });
}

}  // namespace octavo::OCTAVO_ISA
