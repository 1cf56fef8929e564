// paged_attention.h with products of AVX-512 BF16.

#include "attention_bf16.h"
#include "attention_plan.h"
#include "paged_attention.h"

namespace octavo::OCTAVO_ISA {

bool fits_bf16_products(const KvCache& cache) { return Bf16Products::fit(cache); }

void paged_attention_bf16(const PagedAttentionArgs& args) { attend<Bf16Products>(args); }

}  // namespace octavo::OCTAVO_ISA
