// Functions of vectors, written once on top of simd.h.
#pragma once

namespace octavo::OCTAVO_ISA {

// e^v to about 1 ulp; 0 below -104, infinity above 88.73, NaN for NaN.
inline F32 exp(F32 v) {
    v = max(broadcast(-110.0f), min(broadcast(90.0f), v));  // the second operand wins where it is NaN
    const F32 n = round_to_even(v * broadcast(1.44269504f));
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    F32 r = fma(n, broadcast(-0.693359375f), v);
    r = fma(n, broadcast(2.12194440e-4f), r);
    // e^r for |r| <= ln(2)/2: coefficients of Cephes' expf (S. Moshier).
    F32 p = broadcast(1.9875691500e-4f);
    p = fma(p, r, broadcast(1.3981999507e-3f));
    p = fma(p, r, broadcast(8.3334519073e-3f));
    p = fma(p, r, broadcast(4.1665795894e-2f));
    p = fma(p, r, broadcast(1.6666665459e-1f));
    p = fma(p, r, broadcast(5.0000001201e-1f));
    p = fma(p, r * r, r + broadcast(1.0f));
    return ldexp(p, n);
}

// v / (1 + e^-v)
inline F32 silu(F32 v) { return v / (broadcast(1.0f) + exp(zero() - v)); }

// v / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (v + 0.044715 v^3), which is v / (1 + e^(-2u)).
inline F32 gelu_tanh(F32 v) {
    const F32 u = v * fma(v * v, broadcast(0.0356774081f), broadcast(0.7978845608f));
    return v / (broadcast(1.0f) + exp(broadcast(-2.0f) * u));
}

}  // namespace octavo::OCTAVO_ISA
