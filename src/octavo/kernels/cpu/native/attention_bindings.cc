#include "attention_bindings.h"

#include "address.h"
#include "elementwise.h"
#include "paged_attention.h"
#include "varlen_attention.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace octavo;

namespace {

void bind_paged_attention(Operations& operations) {
    operations.def(
        "paged_attention",
        [](uintptr_t query, int64_t query_stride, uintptr_t output, int64_t num_heads, uintptr_t keys, uintptr_t values,
           int kv_type, int64_t num_kv_heads, int64_t head_dim, int64_t block_size, uintptr_t block_tables,
           int64_t table_stride, uintptr_t query_starts, uintptr_t seq_lens, SeqRows num_seqs, float scale,
           int64_t window, uintptr_t key_scales, uintptr_t value_scales, float soft_cap, uintptr_t sinks, bool rounded) {
            const KvCache cache{at<void>(keys), at<void>(values),      static_cast<KvType>(kv_type), num_kv_heads,
                                head_dim,       at<float>(key_scales), at<float>(value_scales)};
            paged_attention({at<const float>(query), query_stride, at<float>(output), num_heads, cache, block_size,
                             at<const int32_t>(block_tables), table_stride, at<const int32_t>(query_starts),
                             at<const int32_t>(seq_lens), num_seqs, scale, window, soft_cap, at<const float>(sinks),
                             rounded});
        },
        "query"_a, "query_stride"_a, "output"_a, "num_heads"_a, "keys"_a, "values"_a, "kv_type"_a, "num_kv_heads"_a,
        "head_dim"_a, "block_size"_a, "block_tables"_a, "table_stride"_a, "query_starts"_a, "seq_lens"_a, "num_seqs"_a,
        "scale"_a, "window"_a, "key_scales"_a, "value_scales"_a, "soft_cap"_a, "sinks"_a,
        "rounded"_a);
}

void bind_varlen_attention(Operations& operations) {
    operations.def(
        "varlen_attention",
        [](uintptr_t qkv, int64_t qkv_stride, uintptr_t starts, int64_t num_seqs, int64_t num_heads, int64_t head_dim,
           float scale, uintptr_t output) {
            varlen_attention({at<const float>(qkv), qkv_stride, at<const int64_t>(starts), num_seqs, num_heads, head_dim,
                              scale, at<float>(output)});
        },
        "qkv"_a, "qkv_stride"_a, "starts"_a, "num_seqs"_a, "num_heads"_a, "head_dim"_a, "scale"_a, "output"_a);
}

void bind_elementwise(Operations& operations) {
    operations.def(
        "rms_norm",
        [](uintptr_t x, int64_t x_stride, TokenRows num_rows, int64_t size, uintptr_t weight, uintptr_t residual,
           int64_t residual_stride, float eps, uintptr_t total, uintptr_t normalised) {
            rms_norm({at<const float>(x), x_stride, num_rows, size, at<const float>(weight), at<const float>(residual),
                      residual_stride, eps, at<float>(total), at<float>(normalised)});
        },
        "x"_a, "x_stride"_a, "num_rows"_a, "size"_a, "weight"_a, "residual"_a, "residual_stride"_a, "eps"_a, "total"_a,
        "normalised"_a);
    operations.def(
        "silu_and_mul",
        [](uintptr_t x, int64_t x_stride, TokenRows num_rows, int64_t size, uintptr_t y) {
            silu_and_mul({at<const float>(x), x_stride, num_rows, size, at<float>(y)});
        },
        "x"_a, "x_stride"_a, "num_rows"_a, "size"_a, "y"_a);
    operations.def(
        "gelu_tanh_and_mul",
        [](uintptr_t x, int64_t x_stride, TokenRows num_rows, int64_t size, uintptr_t y) {
            gelu_tanh_and_mul({at<const float>(x), x_stride, num_rows, size, at<float>(y)});
        },
        "x"_a, "x_stride"_a, "num_rows"_a, "size"_a, "y"_a);
    operations.def(
        "rotary_write_kv",
        [](uintptr_t query, int64_t query_stride, uintptr_t key, int64_t key_stride, uintptr_t value,
           int64_t value_stride, TokenRows num_tokens, int64_t num_heads, uintptr_t rotated, uintptr_t cos, uintptr_t sin,
           uintptr_t query_norm_weight, uintptr_t key_norm_weight, float eps, uintptr_t keys, uintptr_t values,
           int kv_type, int64_t num_kv_heads, int64_t head_dim, uintptr_t slots, int64_t rotary_dim,
           uintptr_t key_scales, uintptr_t value_scales) {
            const KvCache cache{at<void>(keys), at<void>(values),      static_cast<KvType>(kv_type), num_kv_heads,
                                head_dim,       at<float>(key_scales), at<float>(value_scales)};
            rotary_write_kv({{at<const float>(query), query_stride},
                             {at<const float>(key), key_stride},
                             {at<const float>(value), value_stride},
                             num_tokens,
                             num_heads,
                             at<float>(rotated),
                             at<const float>(cos),
                             at<const float>(sin),
                             rotary_dim,
                             at<const float>(query_norm_weight),
                             at<const float>(key_norm_weight),
                             eps,
                             cache,
                             at<const int64_t>(slots)});
        },
        "query"_a, "query_stride"_a, "key"_a, "key_stride"_a, "value"_a, "value_stride"_a, "num_tokens"_a,
        "num_heads"_a, "rotated"_a, "cos"_a, "sin"_a, "query_norm_weight"_a, "key_norm_weight"_a, "eps"_a, "keys"_a,
        "values"_a, "kv_type"_a, "num_kv_heads"_a, "head_dim"_a, "slots"_a, "rotary_dim"_a, "key_scales"_a,
        "value_scales"_a);
}

}  // namespace

void bind_attention(Operations& operations) {
    bind_paged_attention(operations);
    bind_varlen_attention(operations);
    bind_elementwise(operations);
}
