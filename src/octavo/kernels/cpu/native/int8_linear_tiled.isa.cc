// int8_linear.h with tiles: the same whole numbers as with vectors, and the same arithmetic after them.

#include "int8_linear.h"
#include "quantized_rows.h"
#include "simd_int8.h"
#include "tiled_linear.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int32_t kAddedToWeights = 128;
static_assert(Int8Matrix::kLineBytes == kLineBytes);

}  // namespace

void int8_linear(const Int8LinearArgs& args) {
    const Int8Matrix& weight = *args.weight;
    run_tiled_linear<Quads>(args.x, weight, [&](int64_t row, int64_t panel, const int32_t* low, const int32_t* high) {
        const I32 excess = broadcast_i32(-kAddedToWeights * args.x.negated_sums[row]);
        const F32 scale = broadcast(args.x.scales[row]);
        for (int lane = 0; lane < kHalfPanel; lane += kWidth) {
            const float* scales = weight.scales() + panel * kPanelColumns + lane;
            const F32 low_sums = to_f32(subtract_i32(load_bytes(low + lane), excess));
            const F32 high_sums = to_f32(subtract_i32(load_bytes(high + lane), excess));
            finish(args.output, weight.panels(), row, panel, lane, low_sums * scale * load(scales),
                   high_sums * scale * load(scales + kHalfPanel));
        }
    });
}

}  // namespace octavo::OCTAVO_ISA
