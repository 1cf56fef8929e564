// Calls of kernels that were written down once, to be made again without Python: a step has some two hundred. They can
// be made for any batch that is no larger than the one they were written down for.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace octavo {

struct BatchSize {
    int64_t num_tokens, num_seqs;
};

// An argument that is a number of rows: the same for each token of a batch, or for each of its sequences.
template <int64_t BatchSize::*kPart>
struct Rows {
    int64_t count;
    operator int64_t() const { return count; }
};
using TokenRows = Rows<&BatchSize::num_tokens>;
using SeqRows = Rows<&BatchSize::num_seqs>;

// How an argument is kept, and what it is for a batch.
template <typename T>
class Kept {
  public:
    Kept(T value, const BatchSize&) : value_(value) {}
    T for_batch(const BatchSize&) const { return value_; }

  private:
    std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T> value_;
};
template <int64_t BatchSize::*kPart>
class Kept<Rows<kPart>> {
  public:
    Kept(Rows<kPart> rows, const BatchSize& recorded) : rows_of_one_(rows / recorded.*kPart) {
        if (rows_of_one_ * (recorded.*kPart) != rows)
            throw std::invalid_argument(std::to_string(rows) + " rows are no multiple of the " +
                                        std::to_string(recorded.*kPart) + " of the batch");
    }
    Rows<kPart> for_batch(const BatchSize& batch) const { return {rows_of_one_ * (batch.*kPart)}; }

  private:
    int64_t rows_of_one_;
};

class Program {
  public:
    // For a batch of this size, and smaller ones.
    Program(int64_t num_tokens, int64_t num_seqs) : size_{num_tokens, num_seqs} {
        if (num_tokens < 1 || num_seqs < 1) throw std::invalid_argument("a batch has tokens of sequences");
    }

    const BatchSize& size() const { return size_; }

    void add(const char* name, std::function<void(const BatchSize&)> call) {
        names_.push_back(name);
        calls_.push_back(std::move(call));
    }

    void run(int64_t num_tokens, int64_t num_seqs) const {
        const BatchSize batch = checked(num_tokens, num_seqs);
        for (const auto& call : calls_) call(batch);
    }

    // The same; returns how many nanoseconds each call took.
    std::vector<int64_t> run_timed(int64_t num_tokens, int64_t num_seqs) const {
        using Clock = std::chrono::steady_clock;
        const BatchSize batch = checked(num_tokens, num_seqs);
        std::vector<int64_t> times;
        times.reserve(calls_.size());
        for (const auto& call : calls_) {
            const auto start = Clock::now();
            call(batch);
            times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
        }
        return times;
    }

    // The operations, in the order of their calls.
    const std::vector<std::string>& names() const { return names_; }

    size_t num_calls() const { return calls_.size(); }

  private:
    BatchSize checked(int64_t num_tokens, int64_t num_seqs) const {
        if (num_tokens < 0 || num_seqs < 0 || num_tokens > size_.num_tokens || num_seqs > size_.num_seqs)
            throw std::invalid_argument("calls for " + std::to_string(size_.num_tokens) + " tokens of " +
                                        std::to_string(size_.num_seqs) + " sequences cannot be made for " +
                                        std::to_string(num_tokens) + " of " + std::to_string(num_seqs));
        return {num_tokens, num_seqs};
    }

    BatchSize size_;
    std::vector<std::string> names_;
    std::vector<std::function<void(const BatchSize&)>> calls_;
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
    template <typename F, typename... Args>
    static auto recorder(const char* name, F compute, void (F::*)(Args...) const) {
        return [name, compute](Program& self, Args... args) {
            self.add(name, [compute, kept = std::tuple<Kept<Args>...>(Kept<Args>(args, self.size())...)](
                               const BatchSize& batch) {
                std::apply([&](const Kept<Args>&... each) { compute(each.for_batch(batch)...); }, kept);
            });
        };
    }

    nanobind::module_& module_;
    nanobind::class_<Program>& program_;
};

}  // namespace octavo

namespace nanobind::detail {

template <int64_t octavo::BatchSize::*kPart>
struct type_caster<octavo::Rows<kPart>> {
    NB_TYPE_CASTER(octavo::Rows<kPart>, const_name("int"))

    bool from_python(handle source, uint8_t flags, cleanup_list* cleanup) noexcept {
        make_caster<int64_t> number;
        if (!number.from_python(source, flags, cleanup)) return false;
        value.count = number.value;
        return true;
    }
};

}  // namespace nanobind::detail
