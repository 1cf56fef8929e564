// The Python module octavo.kernels.cpu._native. Arrays cross as addresses: reading a tensor's description in C++ would
// cost more than a small kernel. The Python functions beside this directory check what they pass.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <iterator>
#include <stdexcept>

#include "address.h"
#include "aligned_buffer.h"
#include "attention_bindings.h"
#include "bf16_linear.h"
#include "bf16_probe.h"
#include "isa.h"
#include "linear.h"
#include "packed_matrix.h"
#include "program.h"
#include "quantized_bindings.h"
#include "relax.h"
#include "sampling_bindings.h"
#include "simd_probes.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace octavo;

namespace {

PackedMatrix make_matrix(int64_t out_features, int64_t in_features, const std::string& type, bool gated) {
    if (out_features < 0 || in_features < 0 || (gated && out_features % 2))
        throw std::invalid_argument("a weight of " + std::to_string(out_features) + " by " +
                                    std::to_string(in_features) + " cannot be packed");
    return PackedMatrix(out_features, in_features, weight_type(type), gated);
}

void bind_linear(nb::module_& m, Operations& operations) {
    using Released = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<PackedMatrix>(m, "PackedMatrix")
        .def_prop_ro("num_bytes", &PackedMatrix::num_bytes)
        .def(
            "fill",
            [](PackedMatrix& self, uintptr_t rows, int64_t first, int64_t num_rows, int64_t row_stride) {
                self.fill(at<const void>(rows), first, num_rows, row_stride);
            },
            "rows"_a, "first"_a, "num_rows"_a, "row_stride"_a, Released());
    m.def("pack", &make_matrix, "out_features"_a, "in_features"_a, "dtype"_a, "gated"_a, Released());
    operations.def(
        "embedding",
        [](const PackedMatrix& weight, uintptr_t row_ids, TokenRows num_ids, uintptr_t out, int64_t out_stride) {
            weight.gather(at<const int64_t>(row_ids), num_ids, at<float>(out), out_stride);
        },
        "weight"_a, "row_ids"_a, "num_ids"_a, "out"_a, "out_stride"_a);
    operations.def(
        "linear",
        [](const PackedMatrix& weight, uintptr_t x, TokenRows num_rows, int64_t x_stride, uintptr_t y, int64_t y_stride,
           uintptr_t bias, uintptr_t residual, int64_t residual_stride) {
            const auto compute = weight.type() == WeightType::bf16_pairs ? bf16_linear : linear;
            compute({&weight, at<const float>(x), num_rows, x_stride,
                     {at<float>(y), y_stride, at<const float>(bias), at<const float>(residual), residual_stride}});
        },
        "weight"_a, "x"_a, "num_rows"_a, "x_stride"_a, "y"_a, "y_stride"_a, "bias"_a, "residual"_a,
        "residual_stride"_a);
    m.def("lend_pages", [](uintptr_t begin, std::size_t num_bytes) { lend_pages(at<void>(begin), num_bytes); }, "begin"_a,
          "num_bytes"_a);
    m.def("drop_lent_pages", &drop_lent_pages);
    m.def("multiply_bf16", &multiply_bf16, "steps"_a, Released());
}

// What the tests of the thread pool and its benchmark need; nothing else calls these.
void bind_pool_probes(nb::module_& m) {
    using Released = nb::call_guard<nb::gil_scoped_release>;
    m.def("run_small_regions", [](int64_t count, int64_t num_tasks) {
        for (int64_t i = 0; i < count; ++i) pool().parallel_for(num_tasks, [](int64_t) {});
    }, "count"_a, "num_tasks"_a, Released());
    // Each region ends only when all threads are in it: the price of calling them and coming back.
    m.def("meet", [](int64_t count) {
        const int num_threads = pool().num_threads();
        for (int64_t i = 0; i < count; ++i) {
            std::atomic<int> num_there{0};
            pool().parallel_for(num_threads, [&](int64_t) {
                num_there.fetch_add(1);
                while (num_there.load(std::memory_order_relaxed) < num_threads) relax();
            });
        }
    }, "count"_a, Released());
    m.def("nest_regions", [] {
        pool().parallel_for(2, [](int64_t) { pool().parallel_for(2, [](int64_t) {}); });
    }, Released());
    m.def("fail_in_task", [](int64_t num_tasks, int64_t failing) {
        pool().parallel_for(num_tasks, [&](int64_t task) {
            if (task == failing) throw std::runtime_error("task " + std::to_string(task) + " failed");
        });
    }, "num_tasks"_a, "failing"_a, Released());
    m.def("count_tasks", [](int64_t num_tasks) {
        std::vector<int64_t> counts(num_tasks);
        pool().parallel_for(num_tasks, [&](int64_t task) { ++counts[task]; });
        return counts;
    }, "num_tasks"_a, Released());
    m.def("count_streamed_tasks", [](int64_t num_tasks) {
        std::vector<int64_t> counts(num_tasks);
        pool().parallel_for_streams(num_tasks, [&](int64_t task) { ++counts[task]; });
        return counts;
    }, "num_tasks"_a, Released());
    m.def("threads_of_tasks", [](int64_t num_tasks) {
        std::vector<int> threads(num_tasks, -1);
        pool().parallel_for(num_tasks, [&](int64_t task, int thread) { threads[task] = thread; });
        return threads;
    }, "num_tasks"_a, Released());
}

void bind_simd_probe(nb::module_& m) {
    static constexpr const char* names[] = {"exp", "sqrt", "round_to_even", "through_bf16", "through_f16", "sum",
                                            "max_lane"};
    m.def("run_simd_probe", [](const std::string& name, uintptr_t x, int64_t num_values, uintptr_t out) {
        for (int probe = 0; probe < static_cast<int>(std::size(names)); ++probe)
            if (name == names[probe])
                return run_probe({static_cast<Probe>(probe), at<const float>(x), num_values, at<float>(out)});
        throw std::invalid_argument("no probe " + name);
    }, "name"_a, "x"_a, "num_values"_a, "out"_a);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // an engine that is killed while it computes is no leak
    m.def("available_isas", &available_isas);
    m.def("modelled_isas", &modelled_isas);
    m.def("active_isa", &active_isa_name);
    m.def("set_active_isa", &set_active_isa, "name"_a);
    m.def("num_threads", [] { return pool().num_threads(); });
    m.def("set_num_threads", &set_num_threads, "num_threads"_a, nb::call_guard<nb::gil_scoped_release>());
    nb::class_<Program> program(m, "Program");
    program.def(nb::init<int64_t, int64_t>(), "num_tokens"_a, "num_seqs"_a)
        .def("run", &Program::run, "num_tokens"_a, "num_seqs"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("run_timed", &Program::run_timed, "num_tokens"_a, "num_seqs"_a,
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("names", &Program::names)
        .def_prop_ro("num_calls", &Program::num_calls);
    Operations operations(m, program);
    bind_linear(m, operations);
    bind_quantized_linear(m, operations);
    bind_attention(operations);
    bind_sampling(operations);
    nb::module_ probes = m.def_submodule("pool_probes");
    bind_pool_probes(probes);
    bind_simd_probe(m);
}
