#include "simd_probes.h"

#include "simd.h"

namespace octavo::OCTAVO_ISA {

namespace {

F32 apply(Probe probe, F32 v) {
    uint16_t narrow[kWidth];
    switch (probe) {
        case Probe::exp:
            return exp(v);
        case Probe::sqrt:
            return sqrt(v);
        case Probe::round_to_even:
            return round_to_even(v);
        case Probe::through_bf16:
            store_bf16(narrow, v);
            return load_bf16(narrow);
        case Probe::through_f16:
            store_f16(narrow, v);
            return load_f16(narrow);
        case Probe::sum:
            return broadcast(sum(v));
        default:
            return broadcast(max_lane(v));
    }
}

}  // namespace

void run_probe(const ProbeArgs& args) {
    for (int64_t i = 0; i < args.num_values; i += kWidth) {
        const int64_t left = args.num_values - i;
        const int n = left < kWidth ? static_cast<int>(left) : kWidth;
        store_first(args.out + i, apply(args.probe, load_first(args.x + i, n)), n);
    }
}

}  // namespace octavo::OCTAVO_ISA
