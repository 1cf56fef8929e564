// The division of a batch's attention into work that threads take. Include in .isa.cc files only.
#pragma once

#include "aligned_buffer.h"
#include "attention_decode.h"
#include "attention_prefill.h"
#include "kernel.h"

#include <new>

namespace octavo::OCTAVO_ISA {

constexpr int64_t kItemsPerThread = 2;
// Numbers of keys that make it worth while to share a few tokens' heads among threads.
constexpr int64_t kLeastItemNumbers = 16 * 1024;

// Everything a call needs beside its arguments, laid out in one piece of scratch space.
template <typename Products>
struct AttentionPlan {
    int64_t num_prefill_items = 0, num_decode_items = 0;
    // Key heads of a decode item. It decides who computes a head, not how.
    int64_t heads_per_item;
    int64_t num_partials = 0, num_counters = 0;
    PrefillItem* prefill_items;
    DecodeItem* decode_items;
    int32_t* counters;
    DecodeWalk<Products>* walks;  // of each thread
    float* partials;
    float* thread_areas;
    int64_t area_floats;

    AttentionPlan(const PagedAttentionArgs& args, int64_t num_threads) : heads_per_item(args.cache.num_kv_heads) {
        int64_t total_tiles = 0, total_ranges = 0, total_numbers = 0;
        for (int64_t i = 0; i < args.num_seqs; ++i) {
            const Sequence sequence(args, i);
            if (sequence.num_queries != 1) {
                const int64_t most = queries_of_item(args);
                num_prefill_items += (sequence.num_queries + most - 1) / most * args.cache.num_kv_heads;
            } else {
                const int64_t tiles = num_tiles(args, sequence);
                total_tiles += tiles;
                total_numbers += smaller(sequence.length, tiles * kTileTokens) * args.cache.slot_stride();
                ++total_ranges;
                if (tiles > 1) num_partials += tiles * args.num_heads;
            }
        }
        const int64_t wanted = num_threads == 1 ? 1 : num_threads * kItemsPerThread;
        while (heads_per_item > 1 && total_tiles * ranges(args) < wanted &&
               total_numbers >= 2 * ranges(args) * total_tiles * kLeastItemNumbers)
            heads_per_item = (heads_per_item + 1) / 2;
        num_decode_items = total_tiles * ranges(args);
        num_counters = total_ranges * ranges(args);
        area_floats = larger(num_prefill_items ? PrefillArea<Products>::floats(args) : 0,
                             num_decode_items ? DecodeArea<Products>::floats(args) : 0);
        area_floats = round_up(area_floats, kCacheLine / sizeof(float));
        lay_out(args, num_threads);
        list_items(args);
    }

    int64_t ranges(const PagedAttentionArgs& args) const {
        return (args.cache.num_kv_heads + heads_per_item - 1) / heads_per_item;
    }

    void lay_out(const PagedAttentionArgs& args, int64_t num_threads) {
        const int64_t sizes[] = {num_threads * area_floats * static_cast<int64_t>(sizeof(float)),
                                 num_partials * partial_floats(args) * static_cast<int64_t>(sizeof(float)),
                                 num_prefill_items * static_cast<int64_t>(sizeof(PrefillItem)),
                                 num_decode_items * static_cast<int64_t>(sizeof(DecodeItem)),
                                 num_counters * static_cast<int64_t>(sizeof(int32_t)),
                                 num_threads * static_cast<int64_t>(sizeof(DecodeWalk<Products>))};
        int64_t total = 0;
        for (const int64_t size : sizes) total += round_up(size, kCacheLine);
        char* next = static_cast<char*>(scratch(total));
        char* areas[6];
        for (int i = 0; i < 6; ++i) {
            areas[i] = next;
            next += round_up(sizes[i], kCacheLine);
        }
        thread_areas = reinterpret_cast<float*>(areas[0]);
        partials = reinterpret_cast<float*>(areas[1]);
        prefill_items = reinterpret_cast<PrefillItem*>(areas[2]);
        decode_items = reinterpret_cast<DecodeItem*>(areas[3]);
        counters = reinterpret_cast<int32_t*>(areas[4]);
        walks = reinterpret_cast<DecodeWalk<Products>*>(areas[5]);
        for (int64_t thread = 0; thread < num_threads; ++thread) new (walks + thread) DecodeWalk<Products>;
    }

    // A head's queries follow each other, so that its keys and values are still in the cache. The last queries of a prompt
    // first: they see the most keys, and long work is best started early.
    void list_items(const PagedAttentionArgs& args) {
        PrefillItem* prefill = prefill_items;
        DecodeItem* decode = decode_items;
        float* next_partials = partials;
        int32_t* counter = counters;
        const int64_t num_kv_heads = args.cache.num_kv_heads, most = queries_of_item(args);
        for (int64_t i = 0; i < args.num_seqs; ++i) {
            const Sequence sequence(args, i);
            if (sequence.num_queries != 1) {
                for (int64_t head = 0; head < num_kv_heads; ++head)
                    for (int64_t query = round_up(sequence.num_queries, most) - most; query >= 0; query -= most)
                        *prefill++ = {i, query, smaller(most, sequence.num_queries - query), head};
                continue;
            }
            const int64_t tiles = num_tiles(args, sequence);
            for (int64_t head = 0; head < num_kv_heads; head += heads_per_item, ++counter) {
                *counter = 0;
                for (int64_t tile = 0; tile < tiles; ++tile)
                    *decode++ = {i, tile, head, smaller(num_kv_heads, head + heads_per_item),
                                 tiles > 1 ? next_partials : nullptr, counter};
            }
            if (tiles > 1) next_partials += tiles * args.num_heads * partial_floats(args);
        }
    }
};

// Attention of a batch with the given products.
template <typename Products>
void attend(const PagedAttentionArgs& args) {
    if (args.num_seqs == 0 || args.num_heads == 0) return;
    ThreadPool& threads = pool();
    const AttentionPlan<Products> plan(args, threads.num_threads());
    const int64_t num_items = plan.num_prefill_items + plan.num_decode_items;
    threads.parallel_for_streams(num_items, [&](int64_t task, int thread) {
        float* area = plan.thread_areas + thread * plan.area_floats;
        if (task < plan.num_prefill_items) {
            const PrefillItem* item = plan.prefill_items + task;
            return Prefill<Products>(args, *item, task + 1 < plan.num_prefill_items ? item + 1 : nullptr, area).run();
        }
        const DecodeItem* item = plan.decode_items + task - plan.num_prefill_items;
        plan.walks[thread].visit(args, *item, task + 1 < num_items ? item + 1 : nullptr, area);
    });
}

}  // namespace octavo::OCTAVO_ISA
