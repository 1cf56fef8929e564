// The paged KV cache of one layer, as kernels see it.
#pragma once

#include <cstdint>

namespace octavo {

enum class KvType : int { fp32, bf16, fp16, int8 };

// Keys and values are each [num_slots, num_kv_heads, head_dim], contiguous; slot = block id * block_size + offset. An int8 cache
// has a factor for each token and head.
struct KvCache {
    void* keys;
    void* values;
    KvType type;
    int64_t num_kv_heads;
    int64_t head_dim;
    float* key_scales = nullptr;  // [num_slots, num_kv_heads], with int8 only
    float* value_scales = nullptr;

    int64_t slot_stride() const { return num_kv_heads * head_dim; }
};

}  // namespace octavo
