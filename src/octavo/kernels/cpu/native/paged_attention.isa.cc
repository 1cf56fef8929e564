// paged_attention.h for one instruction set, with fp32 products.

#include "paged_attention.h"

#include "attention_fp32.h"
#include "attention_plan.h"

namespace octavo::OCTAVO_ISA {

void paged_attention_fp32(const PagedAttentionArgs& args) {
    with_kv_type(args.cache.type, [&](auto kv) { attend<Fp32Products<decltype(kv)>>(args); });
}

}  // namespace octavo::OCTAVO_ISA
