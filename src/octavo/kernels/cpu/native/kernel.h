// The frame that every CPU kernel lives in. How to add one, say `softmax`:
//
//   softmax.h        plain structs of the arguments (pointers, sizes, strides in elements) and the function that
//                    module.cc calls: `void softmax(const SoftmaxArgs&)`.
//   softmax.isa.cc   the computation, compiled once for each instruction set with that set's flags:
//
//                        #include "softmax.h"
//                        #include "simd.h"                  // F32, load, fma, exp, … in this file's namespace
//                        namespace octavo::OCTAVO_ISA {
//                        namespace { /* templates, helpers */ }
//                        void softmax(const SoftmaxArgs& args) { pool().parallel_for(n, [&](int64_t row) { … }); }
//                        }
//
//   softmax.cc       the choice at run time, one line with the macro below.
//   CMakeLists.txt   `octavo_kernel(softmax)`, and softmax.cc among the sources of the module.
//   module.cc        the binding; pointers cross as integers (uintptr_t), the GIL is released in the call.
//   ../softmax.py    the Python function with the signature of kernels/reference/softmax.py: checks, then calls.
//   _native.pyi      its type.
//
// Rules. An .isa.cc file keeps everything it defines in namespace octavo::OCTAVO_ISA and uses nothing from the standard
// library that is compiled into a function (std::vector, std::sort, std::min on references): the linker keeps
// one copy of such a function for all files, and it may be the one with instructions that this processor lacks.
// Kernels take fp32 activations, accumulate in fp32 and let NaN and infinity through; no -ffast-math. The result must not
// depend on the number of threads, nor the result of one row on the others in the batch.
// Arguments are checked in Python; here they are trusted.
#pragma once

#include "isa.h"
#include "thread_pool.h"

#if defined(__x86_64__)
#define OCTAVO_IF_X86(...) __VA_ARGS__
#else
#define OCTAVO_IF_X86(...)
#endif

#if defined(OCTAVO_HAS_AMX)
#define OCTAVO_IF_AMX(...) __VA_ARGS__
#else
#define OCTAVO_IF_AMX(...)
#endif

// Define `result name(params)` as the best of the copies compiled for portable, avx2 and avx512. `args` is the list of
// the parameters' names, in parentheses: OCTAVO_DISPATCH(void, softmax, (const SoftmaxArgs& args), (args))
#define OCTAVO_DISPATCH(result, name, params, args)                                                 \
    namespace portable {                                                                            \
    result name params;                                                                             \
    }                                                                                               \
    OCTAVO_IF_X86(namespace avx2 { result name params; } namespace avx512 { result name params; }) \
    result name params {                                                                            \
        OCTAVO_IF_X86(if (active_isa() >= Isa::avx512) return avx512::name args;                    \
                      if (active_isa() >= Isa::avx2) return avx2::name args;)                       \
        return portable::name args;                                                                 \
    }

// The same for products, which processors with more instructions compute in other ways: there is a copy for `further`
// (avx512_vnni or avx512_bf16), and NAME_tiled.isa.cc for tiles (tiles.h), which runs where `worth_tiles` holds.
#define OCTAVO_DISPATCH_PRODUCT(further, result, name, params, args, worth_tiles)                               \
    namespace portable {                                                                                        \
    result name params;                                                                                         \
    }                                                                                                           \
    OCTAVO_IF_X86(namespace avx2 { result name params; } namespace avx512 { result name params; }              \
                  namespace further { result name params; } namespace amx_modelled { result name params; })    \
    OCTAVO_IF_AMX(namespace amx { result name params; })                                                       \
    result name params {                                                                                        \
        OCTAVO_IF_AMX(if (active_tiles() == Tiles::amx && (worth_tiles)) return amx::name args;)                \
        OCTAVO_IF_X86(if (active_tiles() == Tiles::modelled && (worth_tiles)) return amx_modelled::name args;   \
                      if (active_isa() >= Isa::further) return further::name args;                              \
                      if (active_isa() >= Isa::avx512) return avx512::name args;                                \
                      if (active_isa() >= Isa::avx2) return avx2::name args;)                                   \
        return portable::name args;                                                                             \
    }
