// Threads for short parallel regions: the calling thread and num_threads - 1 workers.
//
// A decode step has some two hundred regions of 10 to 500 microseconds, so a region must start in about one. Workers that
// run out of work watch a word in memory for a while and then sleep, so an idle engine costs nothing. Workers that come
// late, since something else has their core, miss a region instead of holding it up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace octavo {

class ThreadPool {
  public:
    // Throws std::invalid_argument unless 1 <= num_threads <= 1024.
    explicit ThreadPool(int num_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const { return num_threads_; }

    // Call body(task), or body(task, thread), for each task in [0, num_tasks) and return when all calls have. Threads
    // take the next task when they are done with one, in order, so tasks of unequal cost and cores of unequal speed even
    // out; `thread` is in [0, num_threads), 0 the caller. The first exception is thrown here at the end, and some
    // tasks may then be left out. A region inside a region throws std::logic_error; regions that several threads start
    // at once take turns.
    template <typename Body>
    void parallel_for(int64_t num_tasks, Body&& body) {
        if (num_tasks <= 0) return;
        auto take_tasks = [this, num_tasks, &body](int thread) {
            for (int64_t task; (task = next_task_.fetch_add(1, std::memory_order_relaxed)) < num_tasks;)
                call(body, task, thread);
        };
        run_region([](void* context, int thread) { (*static_cast<decltype(take_tasks)*>(context))(thread); },
                   &take_tasks, num_tasks == 1);
    }

    // The same for tasks whose data lie side by side in memory, num_tasks < 2^32: each thread walks through a part of its
    // own from front to back, so that it reads in one stream, and then helps the others from the ends of theirs.
    template <typename Body>
    void parallel_for_streams(int64_t num_tasks, Body&& body) {
        if (num_tasks <= 0) return;
        auto take_tasks = [this, &body](int thread) {
            for (int64_t task; (task = parts_[thread].take_first()) >= 0;) call(body, task, thread);
            for (int i = 1; i < num_threads_; ++i)
                for (int64_t task; (task = parts_[(thread + i) % num_threads_].take_last()) >= 0;)
                    call(body, task, thread);
        };
        run_region([](void* context, int thread) { (*static_cast<decltype(take_tasks)*>(context))(thread); },
                   &take_tasks, num_tasks == 1, num_tasks);
    }

  private:
    using Call = void (*)(void* context, int thread);

    template <typename Body>
    static void call(Body& body, int64_t task, int thread) {
        if constexpr (std::is_invocable_v<Body, int64_t, int>)
            body(task, thread);
        else
            body(task);
    }

    // The tasks of one thread that are left: the first in the high half of the word, the end in the low one.
    struct alignas(64) Part {
        std::atomic<uint64_t> left{0};

        // -1 if there is none.
        int64_t take_first();
        int64_t take_last();
    };

    // `num_streamed_tasks`: how many tasks are to be divided into parts.
    void run_region(Call call, void* context, bool alone, int64_t num_streamed_tasks = 0);
    void open_region();
    void close_region();
    void call_and_keep_error(int thread);
    void work(int thread);
    uint64_t wait_for_region(uint64_t seen);

    // The number of the last region, whether it takes no more workers, and how many are in it. What all watch and what
    // all fetch from are on cache lines of their own.
    alignas(64) std::atomic<uint64_t> region_;
    alignas(64) std::atomic<int64_t> next_task_{0};
    alignas(64) Call call_ = nullptr;
    void* context_ = nullptr;
    std::atomic<bool> stopping_{false};
    std::atomic<int> num_sleeping_{0};
    std::atomic<bool> caller_sleeps_{false};
    std::mutex region_mutex_;
    std::mutex sleep_mutex_;
    std::condition_variable wake_workers_;
    std::condition_variable wake_caller_;
    std::mutex error_mutex_;
    std::exception_ptr error_;
    int num_threads_;
    std::vector<Part> parts_;
    std::vector<std::thread> workers_;
};

// The pool that all kernels use; one thread until set_num_threads is called.
ThreadPool& pool();

// Replace the pool. Must not be called while a kernel runs.
void set_num_threads(int num_threads);

}  // namespace octavo
