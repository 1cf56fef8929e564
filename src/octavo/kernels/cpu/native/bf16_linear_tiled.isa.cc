// bf16_linear.h with tiles. What a row gives depends on the order of its sums, so tiles multiply it however few rows
// there are.

#include "bf16_linear.h"
#include "bf16_rows.h"
#include "tiled_linear.h"

namespace octavo::OCTAVO_ISA {

namespace {

constexpr int64_t kFeaturesATile = kTileBytes / sizeof(Bf16Input);
static_assert(sizeof(Bf16Input) == 2);

}  // namespace

void bf16_linear(const LinearArgs& args) {
    const PackedMatrix& weight = *args.weight;
    const RoundedRows x = round_rows(args, divide_up(weight.in_features(), kFeaturesATile) * kFeaturesATile);
    run_tiled_linear<Pairs>(x, weight, [&](const BlockRows& rows, int64_t panel, const BlockSums<float>& sums) {
        write_rows(StripOutput(args.output, weight.panels(), panel, 0), rows, sums);
    });
}

}  // namespace octavo::OCTAVO_ISA
