#include "paged_attention.h"

#include "kernel.h"

namespace octavo {

OCTAVO_DISPATCH(void, paged_attention_fp32, (const PagedAttentionArgs& args), (args))

OCTAVO_IF_X86(namespace avx512_bf16 {
    bool fits_bf16_products(const KvCache& cache);
    void paged_attention_bf16(const PagedAttentionArgs& args);
})

void paged_attention(const PagedAttentionArgs& args) {
    OCTAVO_IF_X86(if (args.rounded && active_isa() >= Isa::avx512_bf16 && avx512_bf16::fits_bf16_products(args.cache))
                      return avx512_bf16::paged_attention_bf16(args);)
    paged_attention_fp32(args);
}

}  // namespace octavo
