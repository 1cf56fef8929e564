// Calls of kernels that were written down once, to be made again without Python: a decode step has some two hundred.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace octavo {

class Program {
  public:
    void add(std::function<void()> call) { calls_.push_back(std::move(call)); }

    void run() const {
        for (const auto& call : calls_) call();
    }

    size_t num_calls() const { return calls_.size(); }

  private:
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
        program_.def(name, recorder(compute, &F::operator()), annotations...);
    }

  private:
    template <typename T>
    using Kept = std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>;

    template <typename F, typename... Args>
    static auto recorder(F compute, void (F::*)(Args...) const) {
        return [compute](Program& self, Args... args) {
            self.add([compute, kept = std::tuple<Kept<Args>...>(args...)] { std::apply(compute, kept); });
        };
    }

    nanobind::module_& module_;
    nanobind::class_<Program>& program_;
};

}  // namespace octavo
