#include "thread_pool.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "relax.h"

namespace octavo {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostThreads = 1024;
// Longer than what Python does between two kernels of a step, shorter than what anyone would notice as load.
constexpr auto kSpinTime = std::chrono::microseconds(200);
constexpr int kSpinsBetweenClockReads = 64;

// The parts of region_.
constexpr uint64_t kWorker = 1;
constexpr uint64_t kClosed = uint64_t{1} << 15;
constexpr uint64_t kWorkers = kClosed - 1;
constexpr uint64_t kRegion = uint64_t{1} << 16;
constexpr uint64_t number_of(uint64_t region) { return region / kRegion; }

// The parts of Part::left.
constexpr uint64_t kFirst = uint64_t{1} << 32;
constexpr uint64_t kEnd = kFirst - 1;

thread_local bool inside_region = false;

int checked(int num_threads) {
    if (num_threads < 1 || num_threads > kMostThreads)
        throw std::invalid_argument("a pool has 1 to " + std::to_string(kMostThreads) + " threads, not " +
                                    std::to_string(num_threads));
    return num_threads;
}

// Watch a condition for a while; whether it came true.
template <typename Condition>
bool spin_until(Condition&& condition) {
    for (int i = 0; i < kSpinsBetweenClockReads; ++i) {
        if (condition()) return true;
        relax();
    }
    const auto end = Clock::now() + kSpinTime;
    do {
        for (int i = 0; i < kSpinsBetweenClockReads; ++i) {
            if (condition()) return true;
            relax();
        }
    } while (Clock::now() < end);
    return false;
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : region_(kClosed), num_threads_(checked(num_threads)), parts_(static_cast<std::size_t>(num_threads)) {
    workers_.reserve(num_threads - 1);
    for (int thread = 1; thread < num_threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
    stopping_.store(true);
    open_region();
    for (std::thread& worker : workers_) worker.join();
}

int64_t ThreadPool::Part::take_first() {
    uint64_t seen = left.load(std::memory_order_relaxed);
    while (seen >> 32 < (seen & kEnd))
        if (left.compare_exchange_weak(seen, seen + kFirst, std::memory_order_relaxed))
            return static_cast<int64_t>(seen >> 32);
    return -1;
}

int64_t ThreadPool::Part::take_last() {
    uint64_t seen = left.load(std::memory_order_relaxed);
    while (seen >> 32 < (seen & kEnd))
        if (left.compare_exchange_weak(seen, seen - 1, std::memory_order_relaxed))
            return static_cast<int64_t>(seen & kEnd) - 1;
    return -1;
}

void ThreadPool::run_region(Call call, void* context, bool alone, int64_t num_streamed_tasks) {
    if (inside_region) throw std::logic_error("a parallel region cannot start another one");
    std::lock_guard<std::mutex> region(region_mutex_);
    call_ = call;
    context_ = context;
    next_task_.store(0, std::memory_order_relaxed);
    for (int thread = 0; num_streamed_tasks > 0 && thread < num_threads_; ++thread) {
        const uint64_t first = num_streamed_tasks * thread / num_threads_;
        const uint64_t end = num_streamed_tasks * (thread + 1) / num_threads_;
        parts_[thread].left.store(first * kFirst | end, std::memory_order_relaxed);
    }
    if (alone || num_threads_ == 1) {
        call_and_keep_error(0);
    } else {
        open_region();
        call_and_keep_error(0);
        close_region();
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::open_region() {
    // Sequentially consistent, as are the operations on num_sleeping_: either the worker that lies down sees the new
    // region, or it is seen lying here.
    region_.store((number_of(region_.load(std::memory_order_relaxed)) + 1) * kRegion);
    if (num_sleeping_.load() > 0 && num_sleeping_.exchange(0) > 0) {
        std::lock_guard<std::mutex> lock(sleep_mutex_);
        wake_workers_.notify_all();
    }
}

void ThreadPool::close_region() {
    region_.fetch_or(kClosed);
    const auto is_empty = [this] { return (region_.load() & kWorkers) == 0; };
    if (spin_until(is_empty)) return;
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    caller_sleeps_.store(true);
    wake_caller_.wait(lock, is_empty);
    caller_sleeps_.store(false);
}

void ThreadPool::call_and_keep_error(int thread) {
    inside_region = true;
    try {
        call_(context_, thread);
    } catch (...) {
        std::lock_guard<std::mutex> lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
    }
    inside_region = false;
}

void ThreadPool::work(int thread) {
    uint64_t seen = 0;
    while (true) {
        uint64_t region = wait_for_region(seen);
        if (stopping_.load()) return;
        seen = number_of(region);
        // Fails if the region is closed, or another one is open by now.
        while (!(region & kClosed) && number_of(region) == seen) {
            if (!region_.compare_exchange_weak(region, region + kWorker)) continue;
            call_and_keep_error(thread);
            const uint64_t left = region_.fetch_sub(kWorker) - kWorker;
            if ((left & kWorkers) == 0 && caller_sleeps_.load()) {
                std::lock_guard<std::mutex> lock(sleep_mutex_);
                wake_caller_.notify_one();
            }
            break;
        }
    }
}

// Return region_ when its number is another than `seen`.
uint64_t ThreadPool::wait_for_region(uint64_t seen) {
    const auto is_new = [&] { return number_of(region_.load(std::memory_order_acquire)) != seen; };
    if (!spin_until(is_new)) {
        std::unique_lock<std::mutex> lock(sleep_mutex_);
        // Counted anew before each sleep: a region that was opened before this worker was done with it may wake it late,
        // and has set the count to zero then.
        while (num_sleeping_.fetch_add(1), number_of(region_.load()) == seen) wake_workers_.wait(lock);
    }
    return region_.load();
}

namespace {

// Never destroyed: at the end of the process its threads may be gone already.
std::unique_ptr<ThreadPool>& pool_owner() {
    static auto* owner = new std::unique_ptr<ThreadPool>(new ThreadPool(1));
    return *owner;
}

}  // namespace

ThreadPool& pool() { return *pool_owner(); }

void set_num_threads(int num_threads) {
    if (pool().num_threads() != num_threads) pool_owner() = std::make_unique<ThreadPool>(num_threads);
}

}  // namespace octavo
