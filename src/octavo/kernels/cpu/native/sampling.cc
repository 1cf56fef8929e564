#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "aligned_buffer.h"
#include "row_passes.h"
#include "thread_pool.h"
#include "weighted_threshold.h"

namespace octavo {

namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
// Fewer logits than this are not worth another task.
constexpr int64_t kBlocksATask = 16;
constexpr int64_t kTasksAThread = 4;

// What a thread needs for the row that it is at.
struct Room {
    float* values;
    float* weights;
    float* masses;
    int32_t* token_ids;
    Weighted* items;

    static std::size_t num_bytes(int64_t vocab_size) {
        return (vocab_size + kBlock) * (3 * sizeof(float) + sizeof(int32_t) + sizeof(Weighted));
    }
    Room(std::byte* memory, int64_t vocab_size) {
        const int64_t size = vocab_size + kBlock;
        values = reinterpret_cast<float*>(memory);
        weights = values + size;
        masses = weights + size;
        token_ids = reinterpret_cast<int32_t*>(masses + size);
        items = reinterpret_cast<Weighted*>(token_ids + size);
    }
};

// The greatest logit of each block of a row, and where they were asked for the sums of the blocks' weights.
struct Summary {
    float* maxima;
    float* sums;
    float greatest;
};

// Reduce each row's blocks, then call finish(row, logits, summary, room) for each: rows on several threads, and blocks too if there
// are few rows. `scale_of(row)` is the scale of a row's weights, or 0 if their sums are not needed.
template <typename ScaleOf, typename Finish>
void for_each_row(const float* logits, int64_t stride, int64_t num_rows, int64_t vocab_size, ScaleOf&& scale_of,
                  Finish&& finish) {
    const LogitRow shape{logits, vocab_size};
    const int64_t num_blocks = shape.num_blocks(), num_threads = pool().num_threads();
    const std::size_t summary_bytes = num_rows * num_blocks * 2 * sizeof(float);
    const std::size_t room_bytes = Room::num_bytes(vocab_size);
    auto* memory = static_cast<std::byte*>(scratch(summary_bytes + num_threads * room_bytes));
    auto* summaries = reinterpret_cast<float*>(memory);
    const auto row_at = [&](int64_t row) { return LogitRow{logits + row * stride, vocab_size}; };
    const auto reduce = [&](int64_t row, int64_t first, int64_t end) {
        float* maxima = summaries + row * num_blocks * 2;
        const float scale = scale_of(row);
        reduce_blocks(row_at(row), first, end, scale, maxima, scale != 0 ? maxima + num_blocks : nullptr);
    };
    const auto finish_row = [&](int64_t row, int thread) {
        float* maxima = summaries + row * num_blocks * 2;
        const float greatest = *std::max_element(maxima, maxima + num_blocks);
        finish(row, row_at(row), Summary{maxima, maxima + num_blocks, greatest},
               Room(memory + summary_bytes + thread * room_bytes, vocab_size));
    };
    const int64_t wanted = (kTasksAThread * num_threads + num_rows - 1) / num_rows;
    const int64_t num_parts = num_threads == 1 ? 1 : std::max<int64_t>(1, std::min(wanted, num_blocks / kBlocksATask));
    if (num_parts == 1) {
        pool().parallel_for(num_rows, [&](int64_t row, int thread) {
            reduce(row, 0, num_blocks);
            finish_row(row, thread);
        });
        return;
    }
    pool().parallel_for(num_rows * num_parts, [&](int64_t task) {
        const int64_t row = task / num_parts, part = task % num_parts;
        reduce(row, part * num_blocks / num_parts, (part + 1) * num_blocks / num_parts);
    });
    pool().parallel_for(num_rows, finish_row);
}

float clean(float logit) {
    if (std::isnan(logit)) return -std::numeric_limits<float>::infinity();
    return std::min(logit, std::numeric_limits<float>::max());
}

int64_t first_greatest(const LogitRow& row, const Summary& summary) {
    const float* block = std::find(summary.maxima, summary.maxima + row.num_blocks(), summary.greatest);
    int64_t token = (block - summary.maxima) * kBlock;
    while (token < row.vocab_size - 1 && clean(row.logits[token]) != summary.greatest) ++token;
    return token;
}

// SplitMix64 on a mix of both, as in the reference.
double uniform_number(int64_t seed, int64_t position) {
    const auto mix = [](uint64_t v) {
        v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
        v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
        return v ^ (v >> 31);
    };
    const uint64_t state = mix(static_cast<uint64_t>(seed)) + (static_cast<uint64_t>(position) + 1) * 0x9E3779B97F4A7C15u;
    return static_cast<double>(mix(state) >> 11) * 0x1p-53;
}

double sum_of(const float* weights, int64_t count) {
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += weights[i];
    return total;
}

// The first index with which the sum of the weights passes `target`; by rounding it may not, then the last that counts.
int64_t index_at(const float* weights, int64_t count, double target) {
    int64_t last = 0;
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
        sum += weights[i];
        if (sum > target) return i;
        if (weights[i] > 0) last = i;
    }
    return last;
}

// Set room.masses to the sums of the blocks' weights, relative to the greatest logit of the row; returns their sum.
double weigh_blocks(const LogitRow& row, const Summary& summary, const Room& room, float scale) {
    weigh(summary.maxima, row.num_blocks(), summary.greatest, scale, room.masses);
    for (int64_t block = 0; block < row.num_blocks(); ++block) room.masses[block] *= summary.sums[block];
    return sum_of(room.masses, row.num_blocks());
}

// Draw from all tokens of a row: the block by its sum, then the token in it.
int64_t draw_from_blocks(const LogitRow& row, const Summary& summary, const Room& room, float scale, double uniform) {
    const double target = uniform * weigh_blocks(row, summary, room, scale);
    const int64_t block = index_at(room.masses, row.num_blocks(), target);
    const int64_t first = block * kBlock, size = std::min(kBlock, row.vocab_size - first);
    for (int64_t i = 0; i < size; ++i) room.values[i] = clean(row.logits[first + i]);
    weigh(room.values, size, summary.maxima[block], scale, room.weights);
    const double left = (target - sum_of(room.masses, block)) / room.masses[block];
    return first + index_at(room.weights, size, left * summary.sums[block]);
}

// The k-th greatest of some values, all of them finite but for -infinity.
float kth_greatest(const float* values, int64_t count, int64_t k, Weighted* items) {
    for (int64_t i = 0; i < count; ++i) items[i] = {std::max(values[i], kLowest), 1.0f};
    return weighted_threshold(items, count, static_cast<double>(k));
}

struct RowParams {
    float scale;  // 1 / temperature
    int64_t top_k;
    float top_p;
    float min_p;

    bool filters() const { return top_k || top_p < 1 || min_p > 0; }
    bool needs_sums() const { return !top_k && !(min_p > 0); }
};

// A value that less than `left_out` of the mass is certain to be below, by the masses of the blocks alone. A block
// has at most its own mass there, and at most kBlock times the weight of the value.
float top_p_bound(const LogitRow& row, const Summary& summary, const Room& room, float scale, double left_out) {
    constexpr int kHalvings = 12;
    constexpr double kLeastLogWeight = -40.0;
    double low = kLeastLogWeight + std::log(left_out / row.vocab_size), high = 0;
    for (int i = 0; i < kHalvings; ++i) {
        const double middle = (low + high) / 2;
        const float most = static_cast<float>(kBlock * std::exp(middle));
        double below = 0;
        for (int64_t block = 0; block < row.num_blocks(); ++block) below += std::min(room.masses[block], most);
        (below < left_out ? low : high) = middle;
    }
    return static_cast<float>(summary.greatest + low / scale);
}

struct Candidates {
    const Room& room;
    int64_t count;

    // Those that the filters may keep: as few as can be told without looking at single logits.
    Candidates(const LogitRow& row, const Summary& summary, const Room& room, float bound)
        : room(room), count(collect(row, summary.maxima, std::max(bound, kLowest), room.values, room.token_ids)) {}

    void keep_from(float threshold) {
        int64_t kept = 0;
        for (int64_t i = 0; i < count; ++i) {
            const float value = room.values[i];
            room.values[kept] = value;
            room.token_ids[kept] = room.token_ids[i];
            room.weights[kept] = room.weights[i];
            kept += value >= threshold;
        }
        count = kept;
    }
};

int64_t draw_filtered(const LogitRow& row, const Summary& summary, const Room& room, const RowParams& params,
                      double uniform) {
    double total = 0;  // of the mass that top-p is a share of, if nothing is filtered before
    float bound = kLowest;
    if (params.needs_sums()) {
        total = weigh_blocks(row, summary, room, params.scale);
        // A little less than what may be left out: sums are rounded.
        bound = top_p_bound(row, summary, room, params.scale, 0.99 * (1 - params.top_p) * total);
    }
    if (params.min_p > 0) bound = summary.greatest + std::log(params.min_p) / params.scale;
    if (params.top_k && params.top_k <= row.num_blocks())  // as many blocks have a logit that is at least as great
        bound = std::max(bound, kth_greatest(summary.maxima, row.num_blocks(), params.top_k, room.items));
    Candidates found(row, summary, room, bound);
    if (params.top_k) found.keep_from(kth_greatest(room.values, found.count, params.top_k, room.items));
    weigh(room.values, found.count, summary.greatest, params.scale, room.weights);
    if (params.top_p < 1) {
        if (!params.needs_sums()) total = sum_of(room.weights, found.count);
        for (int64_t i = 0; i < found.count; ++i) room.items[i] = {room.values[i], room.weights[i]};
        found.keep_from(weighted_threshold(room.items, found.count, params.top_p * total));
    }
    const double target = uniform * sum_of(room.weights, found.count);
    return room.token_ids[index_at(room.weights, found.count, target)];
}

}  // namespace

void sample_tokens(const SampleArgs& args) {
    const auto params_of = [&](int64_t row) {
        const int64_t top_k = args.top_k[row];
        return RowParams{1.0f / args.temperature[row], top_k < args.vocab_size ? top_k : 0, args.top_p[row],
                         args.min_p[row]};
    };
    const auto scale_of = [&](int64_t row) {
        if (args.temperature[row] == 0) return 0.0f;
        const RowParams params = params_of(row);
        return params.needs_sums() ? params.scale : 0.0f;
    };
    for_each_row(args.logits, args.stride, args.num_rows, args.vocab_size, scale_of,
                 [&](int64_t row, const LogitRow& logits, const Summary& summary, const Room& room) {
                     int64_t& token = args.token_ids[row];
                     if (std::isinf(summary.greatest)) {
                         token = 0;  // nothing is possible
                     } else if (args.temperature[row] == 0) {
                         token = first_greatest(logits, summary);
                     } else {
                         const RowParams params = params_of(row);
                         const double uniform = uniform_number(args.seeds[row], args.positions[row]);
                         token = params.filters() ? draw_filtered(logits, summary, room, params, uniform)
                                                  : draw_from_blocks(logits, summary, room, params.scale, uniform);
                     }
                 });
}

void top_logprobs(const TopLogprobsArgs& args) {
    const int64_t num_top = args.num_top, width = 1 + num_top;
    const auto finish = [&](int64_t row, const LogitRow& logits, const Summary& summary, const Room& room) {
        float* logprobs = args.logprobs + row * width;
        int64_t* ids = args.ids + row * width;
        const double log_total = summary.greatest + std::log(weigh_blocks(logits, summary, room, 1.0f));
        const float given = clean(logits.logits[args.token_ids[row]]);
        ids[0] = args.token_ids[row];
        logprobs[0] = static_cast<float>(given - log_total);
        args.ranks[row] = 1 + count_above(logits, summary.maxima, given);
        if (num_top == 0) return;
        float bound = -std::numeric_limits<float>::infinity();
        if (num_top <= logits.num_blocks())
            bound = kth_greatest(summary.maxima, logits.num_blocks(), num_top, room.items);
        if (bound == kLowest) bound = -std::numeric_limits<float>::infinity();
        const int64_t count = collect(logits, summary.maxima, bound, room.values, room.token_ids);
        auto* order = reinterpret_cast<int32_t*>(room.items);
        for (int64_t i = 0; i < count; ++i) order[i] = static_cast<int32_t>(i);
        std::partial_sort(order, order + num_top, order + count, [&](int32_t a, int32_t b) {
            return room.values[a] != room.values[b] ? room.values[a] > room.values[b] : a < b;
        });
        for (int64_t i = 0; i < num_top; ++i) {
            ids[1 + i] = room.token_ids[order[i]];
            logprobs[1 + i] = static_cast<float>(room.values[order[i]] - log_total);
        }
    };
    for_each_row(args.logits, args.stride, args.num_rows, args.vocab_size, [](int64_t) { return 1.0f; }, finish);
}

void apply_penalties(const PenaltyArgs& args) {
    // Counts of one row at a time and thread; only those of its tokens are ever looked at.
    const int64_t num_threads = pool().num_threads(), size = args.vocab_size;
    auto* all_counts = static_cast<int32_t*>(scratch(num_threads * size * sizeof(int32_t)));
    constexpr int32_t kDone = -1;
    pool().parallel_for(args.num_rows, [&](int64_t i, int thread) {
        int32_t* counts = all_counts + thread * size;
        float* logits = args.logits + args.rows[i] * args.stride;
        const int32_t* tokens = args.token_ids + i * args.token_stride;
        for (int64_t j = 0; j < args.lens[i]; ++j) counts[tokens[j]] = 0;
        for (int64_t j = args.prompt_lens[i]; j < args.lens[i]; ++j) ++counts[tokens[j]];
        for (int64_t j = 0; j < args.lens[i]; ++j) {
            int32_t& count = counts[tokens[j]];
            if (count == kDone) continue;
            float& logit = logits[tokens[j]];
            logit = logit > 0 ? logit / args.repetition[i] : logit * args.repetition[i];
            logit -= args.frequency[i] * static_cast<float>(count);
            if (count) logit -= args.presence[i];
            count = kDone;
        }
    });
}

void apply_token_bitmask(const BitmaskArgs& args) {
    constexpr float kForbidden = -std::numeric_limits<float>::infinity();
    constexpr uint32_t kAll = ~uint32_t{0};
    pool().parallel_for(args.num_rows, [&](int64_t i, int) {
        float* logits = args.logits + args.rows[i] * args.stride;
        const uint32_t* words = args.bitmask + i * args.mask_stride;
        for (int64_t first = 0; first < args.vocab_size; first += 32) {
            const uint32_t word = words[first / 32];
            if (word == kAll) continue;
            const int64_t size = std::min<int64_t>(32, args.vocab_size - first);
            const auto present = static_cast<uint32_t>((uint64_t{1} << size) - 1);
            // The fewer of both kinds one by one: a branch for each token would be predicted wrongly too often.
            if (__builtin_popcount(word & present) > size / 2) {
                for (uint32_t left = ~word & present; left; left &= left - 1) {
                    logits[first + __builtin_ctz(left)] = kForbidden;
                }
                continue;
            }
            float allowed[32];
            int num_allowed = 0;
            for (uint32_t left = word & present; left; left &= left - 1) {
                allowed[num_allowed++] = logits[first + __builtin_ctz(left)];
            }
            std::fill_n(logits + first, size, kForbidden);
            num_allowed = 0;
            for (uint32_t left = word & present; left; left &= left - 1) {
                logits[first + __builtin_ctz(left)] = allowed[num_allowed++];
            }
        }
    });
}

}  // namespace octavo
