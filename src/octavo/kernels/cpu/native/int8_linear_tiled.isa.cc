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
    const auto scale_sums = [&](const BlockRows& rows, int64_t panel, const BlockSums<int32_t>& sums) {
        const float* scales = weight.scales() + panel * kPanelColumns;
        const F32 low_scale = load(scales), high_scale = load(scales + kHalfPanel);
        const StripOutput output(args.output, weight.panels(), panel, 0);
        for (int64_t r = 0; r < rows.count; ++r) {
            const int64_t row = rows.first + r;
            const I32 offset = broadcast_i32(kAddedToWeights * args.x.negated_sums[row]);
            const F32 low = to_f32(add_i32(load_i32(sums.of[0][r]), offset));
            const F32 high = to_f32(add_i32(load_i32(sums.of[1][r]), offset));
            const F32 scale = broadcast(args.x.scales[row]);
            output.write(row, low * scale * low_scale, high * scale * high_scale);
        }
    };
    run_tiled_linear<Quads>(args.x, weight, scale_sums);
}

}  // namespace octavo::OCTAVO_ISA
