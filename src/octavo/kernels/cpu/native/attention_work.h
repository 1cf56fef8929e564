// What both ways of paged attention share: sequences, and where their tokens are. Include in .isa.cc files only.
#pragma once

#include "integers.h"
#include "kv_types.h"
#include "paged_attention.h"
#include "simd.h"

namespace octavo::OCTAVO_ISA {

// One sequence of the batch.
struct Sequence {
    int64_t first_token, num_queries, length;
    const int32_t* blocks;

    Sequence(const PagedAttentionArgs& args, int64_t index)
        : first_token(args.query_starts[index]),
          num_queries(args.query_starts[index + 1] - first_token),
          length(args.seq_lens[index]),
          blocks(args.block_tables + index * args.table_stride) {}

    int64_t position_of_query(int64_t query) const { return length - num_queries + query; }
};

// The first position that a query at `position` sees.
inline int64_t first_visible(const PagedAttentionArgs& args, int64_t position) {
    return args.window == 0 ? 0 : larger(0, position - args.window + 1);
}

// The slots of the tokens at positions [first, end).
inline void find_slots(const PagedAttentionArgs& args, const Sequence& sequence, int64_t first, int64_t end,
                       int64_t* slots) {
    int64_t block = first / args.block_size, in_block = first % args.block_size;
    for (int64_t position = first; position < end; ++block, in_block = 0) {
        const int64_t slot = int64_t{sequence.blocks[block]} * args.block_size;
        for (; in_block < args.block_size && position < end; ++in_block, ++position) *slots++ = slot + in_block;
    }
}

}  // namespace octavo::OCTAVO_ISA
