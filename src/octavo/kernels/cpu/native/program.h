// Calls of kernels that were written down once, to be made again without Python: a decode step has some two hundred.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace octavo {

class Program {
  public:
    void add(const char* name, std::function<void()> call) {
        names_.push_back(name);
        calls_.push_back(std::move(call));
    }

    void run() const {
        for (const auto& call : calls_) call();
    }

    // The same; returns how many nanoseconds each call took.
    std::vector<int64_t> run_timed() const {
        using Clock = std::chrono::steady_clock;
        std::vector<int64_t> times;
        times.reserve(calls_.size());
        for (const auto& call : calls_) {
            const auto start = Clock::now();
            call();
            times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
        }
        return times;
    }

    // The operations, in the order of their calls.
    const std::vector<std::string>& names() const { return names_; }

    size_t num_calls() const { return calls_.size(); }

  private:
    std::vector<std::string> names_;
    std::vector<std::function<void()>> calls_;
};

// Defines operations twice: as functions of the module, which compute, and as methods of Program, which write the call
// down. Packed weights are kept by reference: whoever records keeps them alive.
class Operations {
  public:
    Operations(nanobind::module_& m, nanobind::class_<Program>& program) : module_(m), program_(program) {}

    template <typename F, typename... Annotations>
    void def(const char* name, F compute, const Annotations&... annotations) {
        module_.def(name, compute, annotations..., nanobind::call_guard<nanobind::gil_scoped_release>());
        program_.def(name, recorder(name, compute, &F::operator()), annotations...);
    }

  private:
    template <typename T>
    using Kept = std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>;

    template <typename F, typename... Args>
    static auto recorder(const char* name, F compute, void (F::*)(Args...) const) {
        return [name, compute](Program& self, Args... args) {
            self.add(name, [compute, kept = std::tuple<Kept<Args>...>(args...)] { std::apply(compute, kept); });
        };
    }

    nanobind::module_& module_;
    nanobind::class_<Program>& program_;
};

}  // namespace octavo
