#include "sampling_bindings.h"

#include "address.h"
#include "sampling.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace octavo;

void bind_sampling(Operations& operations) {
    operations.def(
        "sample_tokens",
        [](uintptr_t logits, int64_t stride, int64_t num_rows, int64_t vocab_size, uintptr_t temperature,
           uintptr_t top_k, uintptr_t top_p, uintptr_t min_p, uintptr_t seeds, uintptr_t positions,
           uintptr_t token_ids) {
            sample_tokens({at<const float>(logits), stride, num_rows, vocab_size, at<const float>(temperature),
                           at<const int64_t>(top_k), at<const float>(top_p), at<const float>(min_p),
                           at<const int64_t>(seeds), at<const int64_t>(positions), at<int64_t>(token_ids)});
        },
        "logits"_a, "stride"_a, "num_rows"_a, "vocab_size"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a,
        "seeds"_a, "positions"_a, "token_ids"_a);
    operations.def(
        "top_logprobs",
        [](uintptr_t logits, int64_t stride, int64_t num_rows, int64_t vocab_size, uintptr_t token_ids,
           int64_t num_top, uintptr_t logprobs, uintptr_t ids, uintptr_t ranks) {
            top_logprobs({at<const float>(logits), stride, num_rows, vocab_size, at<const int64_t>(token_ids), num_top,
                          at<float>(logprobs), at<int64_t>(ids), at<int64_t>(ranks)});
        },
        "logits"_a, "stride"_a, "num_rows"_a, "vocab_size"_a, "token_ids"_a, "num_top"_a, "logprobs"_a, "ids"_a,
        "ranks"_a);
    operations.def(
        "apply_penalties",
        [](uintptr_t logits, int64_t stride, int64_t vocab_size, int64_t num_rows, uintptr_t rows, uintptr_t token_ids,
           int64_t token_stride, uintptr_t prompt_lens, uintptr_t lens, uintptr_t presence, uintptr_t frequency,
           uintptr_t repetition) {
            apply_penalties({at<float>(logits), stride, vocab_size, num_rows, at<const int64_t>(rows),
                             at<const int32_t>(token_ids), token_stride, at<const int64_t>(prompt_lens),
                             at<const int64_t>(lens), at<const float>(presence), at<const float>(frequency),
                             at<const float>(repetition)});
        },
        "logits"_a, "stride"_a, "vocab_size"_a, "num_rows"_a, "rows"_a, "token_ids"_a, "token_stride"_a,
        "prompt_lens"_a, "lens"_a, "presence"_a, "frequency"_a, "repetition"_a);
    operations.def(
        "apply_token_bitmask",
        [](uintptr_t logits, int64_t stride, int64_t vocab_size, int64_t num_rows, uintptr_t rows, uintptr_t bitmask,
           int64_t mask_stride) {
            apply_token_bitmask({at<float>(logits), stride, vocab_size, num_rows, at<const int64_t>(rows),
                                 at<const uint32_t>(bitmask), mask_stride});
        },
        "logits"_a, "stride"_a, "vocab_size"_a, "num_rows"_a, "rows"_a, "bitmask"_a, "mask_stride"_a);
}
