// grouped_linear.h with tiles: a group's sums are the same whole numbers as with vectors, and the groups are added up
// in the same order.

#include "grouped_linear.h"

#include "group_scales.h"
#include "quantized_rows.h"
#include "simd_int8.h"
#include "tiled_linear.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int64_t kMaxGroupSize = 128;
constexpr int64_t kMaxLines = kMaxGroupSize / 4;  // of a group, in bytes
static_assert(GroupedMatrix::kLineBytes == kLineBytes);

// A byte for each of a group's 4-bit numbers: the lines that eight bits would have.
void unpack_nibbles(const uint8_t* nibbles, int64_t group_size, uint8_t* lines) {
    for (int64_t k = 0; k < group_size; k += 8, nibbles += kLineBytes, lines += 2 * kLineBytes) {
        for (int64_t byte = 0; byte < kLineBytes; byte += sizeof(I32)) {
            I32 first, second;
            load_nibbles(nibbles + byte, first, second);
            std::memcpy(lines + byte, &first, sizeof first);
            std::memcpy(lines + kLineBytes + byte, &second, sizeof second);
        }
    }
}

template <bool kHasOtherRows>
void multiply_group(TileRegisters& tiles, const BlockRows& rows, int64_t group, int64_t group_size,
                    const uint8_t* lines, BlockSums<int32_t>& sums) {
    clear_sums<kHasOtherRows>(tiles);
    for (int64_t k = 0; k < group_size; k += kTileBytes)
        add_step<Quads, kHasOtherRows>(tiles, rows, group * group_size + k, lines + k / 4 * kLineBytes);
    store_sums<kHasOtherRows>(tiles, sums);
}

// Add a group's sums to those before it. `block` is what the panel has of the group.
template <typename Scale>
void add_group(const GroupedLinearArgs& args, const uint8_t* block, const BlockRows& rows, int64_t group,
               const BlockSums<int32_t>& of_group, BlockSums<float>& sums) {
    const GroupedFormat& format = args.weight->format();
    const float* x_scales = args.x.scales + group * args.x.num_rows + rows.first;
    const int32_t* negated_sums = args.x.negated_sums + group * args.x.num_rows + rows.first;
    const uint8_t* shifts = block + args.weight->scales_bytes();
    for (int half = 0; half < 2; ++half) {
        const int64_t column = half * kHalfPanel;
        const F32 scale = load_scale(reinterpret_cast<const Scale*>(block) + column);
        const I32 zeros = format.shift == Shift::zeros
                              ? load_u16(reinterpret_cast<const uint16_t*>(shifts) + column)
                              : broadcast_i32(format.shift == Shift::half ? format.default_zero() : 0);
        for (int64_t r = 0; r < rows.count; ++r) {
            const I32 taken_off = multiply_small(zeros, broadcast_i32(-negated_sums[r]));
            const F32 whole = to_f32(subtract_i32(load_bytes(of_group.of[half][r]), taken_off));
            float* sum = sums.of[half][r];
            store(sum, fma(whole, scale * broadcast(x_scales[r]), load(sum)));
        }
        if (format.shift != Shift::offsets) continue;
        const F32 offset = load_scale(reinterpret_cast<const Scale*>(shifts) + column);
        for (int64_t r = 0; r < rows.count; ++r) {
            float* sum = sums.of[half][r];
            store(sum, fma(broadcast(static_cast<float>(negated_sums[r]) * x_scales[r]), offset, load(sum)));
        }
    }
}

template <typename Scale>
void run(const GroupedLinearArgs& args) {
    const GroupedMatrix& weight = *args.weight;
    const int64_t group_size = weight.group_size(), block_bytes = weight.block_bytes();
    const bool is_packed = weight.format().bits == 4;
    const int64_t step_bytes = smaller(group_size, kTileBytes);
    for_each_block(args.x, weight, step_bytes, [&](TileRegisters& tiles, const BlockRows& rows, int64_t panel) {
        const auto multiply = rows.fill_one_tile() ? multiply_group<false> : multiply_group<true>;
        const uint8_t* block = weight.data() + panel * weight.panel_bytes();
        alignas(64) uint8_t unpacked[kMaxLines * kLineBytes];
        BlockSums<int32_t> of_group;
        BlockSums<float> sums = {};
        for (int64_t group = 0; group < weight.num_groups(); ++group, block += block_bytes) {
            for (int64_t byte = 0; byte < block_bytes; byte += 64) prefetch(block + kPrefetchBytes + byte);
            const uint8_t* lines = block + weight.lines_offset();
            if (is_packed) unpack_nibbles(lines, group_size, unpacked);
            multiply(tiles, rows, group, group_size, is_packed ? unpacked : lines, of_group);
            add_group<Scale>(args, block, rows, group, of_group, sums);
        }
        write_rows(StripOutput(args.output, weight.panels(), panel, 0), rows, sums);
    });
}

}  // namespace

void grouped_linear(const GroupedLinearArgs& args) {
    if (args.weight->format().scale_type == ScaleType::fp32)
        run<float>(args);
    else
        run<uint16_t>(args);
}

}  // namespace octavo::OCTAVO_ISA
