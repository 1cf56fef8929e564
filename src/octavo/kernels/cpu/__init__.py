"""Kernels in C++ for CPUs, and what is known about them when they are missing.

The native module is built when the package is installed, if there is a compiler (``native/CMakeLists.txt``); how to add
a kernel to it is said in ``native/kernel.h``. Activations are float32 here; weights keep the type of the checkpoint.
"""

from octavo.kernels.cpu.linear import PackedWeight, embedding, linear, linear_silu_and_mul, pack
from octavo.kernels.cpu.loading import NativeStatus, load_native, native_status
from octavo.kernels.cpu.threads import default_num_threads

__all__ = [
    "NativeStatus",
    "PackedWeight",
    "default_num_threads",
    "embedding",
    "linear",
    "linear_silu_and_mul",
    "load_native",
    "native_status",
    "pack",
]
