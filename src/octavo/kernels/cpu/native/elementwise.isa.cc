// elementwise.h for one instruction set.

#include "elementwise.h"

#include "aligned_buffer.h"
#include "integers.h"
#include "kernel.h"
#include "kv_types.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

namespace {

// Numbers for which calling other threads begins to pay; a task has at least half as many.
constexpr int64_t kParallelFloats = 32 * 1024;

// Call body(row, thread) for each row, on several threads if there is enough to do.
template <typename Body>
void for_each_row(int64_t num_rows, int64_t floats_of_row, Body&& body) {
    const int64_t most_tasks = num_rows * floats_of_row / (kParallelFloats / 2);
    const int64_t wanted = most_tasks < 2 ? 1 : smaller(most_tasks, pool().num_threads() * 4);
    const int64_t num_tasks = smaller(wanted, num_rows);
    pool().parallel_for(num_tasks, [&](int64_t task, int thread) {
        for (int64_t row = task * num_rows / num_tasks; row < (task + 1) * num_rows / num_tasks; ++row) body(row, thread);
    });
}

// Call body(i, n) for each vector of [0, size): from element i, with n lanes.
template <typename Body>
inline void for_each_vector(int64_t size, Body&& body) {
    int64_t i = 0;
    for (; i + kWidth <= size; i += kWidth) body(i, kWidth);
    if (i < size) body(i, static_cast<int>(size - i));
}

inline F32 load_lanes(const float* p, int n) { return n == kWidth ? load(p) : load_first(p, n); }
inline void store_lanes(float* p, F32 v, int n) {
    if (n == kWidth)
        store(p, v);
    else
        store_first(p, v, n);
}

// The factor that makes the mean square of a row with this sum of squares 1.
inline float norm_factor(float sum_of_squares, int64_t size, float eps) {
    return 1.0f / __builtin_sqrtf(sum_of_squares / static_cast<float>(size) + eps);
}

inline float sum_of_squares(const float* x, int64_t size) {
    F32 squares = zero();
    for_each_vector(size, [&](int64_t i, int n) {
        const F32 v = load_lanes(x + i, n);
        squares = fma(v, v, squares);
    });
    return sum(squares);
}

void norm_row(const RmsNormArgs& args, int64_t row) {
    const float* x = args.x + row * args.x_stride;
    float* normalised = args.normalised + row * args.size;
    if (args.residual) {
        const float* residual = args.residual + row * args.residual_stride;
        float* total = args.total + row * args.size;
        for_each_vector(args.size, [&](int64_t i, int n) {
            store_lanes(total + i, load_lanes(x + i, n) + load_lanes(residual + i, n), n);
        });
        x = total;
    }
    const F32 factor = broadcast(norm_factor(sum_of_squares(x, args.size), args.size, args.eps));
    for_each_vector(args.size, [&](int64_t i, int n) {
        store_lanes(normalised + i, load_lanes(args.weight + i, n) * (load_lanes(x + i, n) * factor), n);
    });
}

// Normalise a head if there is a weight, and rotate it, into `to`.
inline void rotate_head(const RotaryWriteKvArgs& args, int64_t token, const float* head, const float* weight, float* to) {
    const int64_t head_dim = args.cache.head_dim, half = args.rotary_dim / 2;
    if (weight) {
        const F32 factor = broadcast(norm_factor(sum_of_squares(head, head_dim), head_dim, args.eps));
        for_each_vector(head_dim, [&](int64_t i, int n) {
            store_lanes(to + i, load_lanes(weight + i, n) * (load_lanes(head + i, n) * factor), n);
        });
        head = to;
    }
    const float* cos = args.cos + token * args.rotary_dim;
    const float* sin = args.sin + token * args.rotary_dim;
    for_each_vector(half, [&](int64_t i, int n) {
        const F32 first = load_lanes(head + i, n), second = load_lanes(head + half + i, n);
        const F32 c = load_lanes(cos + i, n), s = load_lanes(sin + i, n);
        store_lanes(to + i, first * c - second * s, n);
        store_lanes(to + half + i, second * c + first * s, n);
    });
    if (head != to)
        for_each_vector(head_dim - args.rotary_dim, [&](int64_t i, int n) {
            store_lanes(to + args.rotary_dim + i, load_lanes(head + args.rotary_dim + i, n), n);
        });
}

// The scale of a head with int8 numbers: its largest magnitude by 127; NaN if something in it is not finite.
inline float scale_of_head(const float* head, int64_t head_dim) {
    F32 largest = zero(), poison = zero();
    for_each_vector(head_dim, [&](int64_t i, int n) {
        const F32 v = load_lanes(head + i, n);
        largest = max(max(v, zero() - v), largest);
        poison = fma(v, zero(), poison);
    });
    return max_lane(largest) / 127.0f + sum(poison);
}

// Write one head of a token, whose place among all heads of the cache is `place`.
template <typename Kv>
void write_head(void* numbers, float* scales, int64_t place, const float* head, int64_t head_dim) {
    auto* to = static_cast<typename Kv::Item*>(numbers) + place * head_dim;
    float scale = 1;
    if constexpr (Kv::kScaled) scale = scales[place] = scale_of_head(head, head_dim);
    const bool is_zero = !(scale > 0);  // or not finite: the scale alone says so
    for_each_vector(head_dim, [&](int64_t i, int n) {
        F32 v = load_lanes(head + i, n);
        if constexpr (Kv::kScaled) {
            const F32 most = broadcast(127.0f);
            v = is_zero ? zero() : max(min(round_to_even(v / broadcast(scale)), most), zero() - most);
        }
        if (n == kWidth)
            Kv::store(to + i, v);
        else
            Kv::store_first(to + i, v, n);
    });
}

template <typename Kv>
void rotate_and_write(const RotaryWriteKvArgs& args, int64_t token, float* room) {
    const KvCache& cache = args.cache;
    const int64_t head_dim = cache.head_dim;
    for (int64_t head = 0; head < args.num_heads; ++head)
        rotate_head(args, token, args.query.data + token * args.query.stride + head * head_dim, args.query_norm_weight,
                    args.rotated + (token * args.num_heads + head) * head_dim);
    for (int64_t head = 0; head < cache.num_kv_heads; ++head) {
        const int64_t place = args.slots[token] * cache.num_kv_heads + head;
        rotate_head(args, token, args.key.data + token * args.key.stride + head * head_dim, args.key_norm_weight, room);
        write_head<Kv>(cache.keys, cache.key_scales, place, room, head_dim);
        write_head<Kv>(cache.values, cache.value_scales, place,
                       args.value.data + token * args.value.stride + head * head_dim, head_dim);
    }
}

template <typename Activation>
void gate_rows(const GateArgs& args, Activation&& activation) {
    for_each_row(args.num_rows, 4 * args.size, [&](int64_t row, int) {
        const float* gate = args.x + row * args.x_stride;
        float* y = args.y + row * args.size;
        for_each_vector(args.size, [&](int64_t i, int n) {
            store_lanes(y + i, activation(load_lanes(gate + i, n)) * load_lanes(gate + args.size + i, n), n);
        });
    });
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
    for_each_row(args.num_rows, args.size, [&](int64_t row, int) { norm_row(args, row); });
}

void silu_and_mul(const GateArgs& args) {
    gate_rows(args, [](F32 v) { return silu(v); });
}

void gelu_tanh_and_mul(const GateArgs& args) {
    gate_rows(args, [](F32 v) { return gelu_tanh(v); });
}

void rotary_write_kv(const RotaryWriteKvArgs& args) {
    const int64_t head_dim = args.cache.head_dim;
    auto* rooms = static_cast<float*>(scratch(pool().num_threads() * head_dim * sizeof(float)));
    with_kv_type(args.cache.type, [&](auto kv) {
        using Kv = decltype(kv);
        for_each_row(args.num_tokens, (args.num_heads + 2 * args.cache.num_kv_heads) * head_dim,
                     [&](int64_t token, int thread) { rotate_and_write<Kv>(args, token, rooms + thread * head_dim); });
    });
}

}  // namespace octavo::OCTAVO_ISA
