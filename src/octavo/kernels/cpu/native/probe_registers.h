// For kernels that measure how fast the processor computes. Include in .isa.cc files only.
#pragma once

namespace octavo::OCTAVO_ISA {

// Hide from the compiler what is in a register, so that it computes every product anew.
template <typename Vector>
inline void forget(Vector& v) {
#if defined(OCTAVO_ISA_portable) && !defined(__x86_64__)
    asm volatile("" : "+w"(v));
#else
    asm volatile("" : "+v"(v));
#endif
}

}  // namespace octavo::OCTAVO_ISA
