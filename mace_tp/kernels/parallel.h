// Runs tasks in XLA's own threads.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "ffi.h"

constexpr int kSpins = 2000;  // pauses before a waiting thread sleeps: 47 microseconds on a Zen 5

// Tells the processor that this thread waits for another thread.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Runs task(0) .. task(count - 1) in this thread and in those of the pool, each time in the next free thread. Returns when all tasks are done,
// even if some threads of the pool never started.
template <typename F>
void run_tasks(ffi::ThreadPool& pool, int64_t count, F task) {
  struct State {
    State(F task, int64_t count) : task(std::move(task)), count(count) {}
    void help() {
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        task(i);
        std::lock_guard<std::mutex> lock(mutex);
        if (++done == count) all_done.notify_all();
      }
    }
    F task;
    const int64_t count;
    std::atomic<int64_t> done{0};
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  if (count <= 0) return;
  auto state = std::make_shared<State>(std::move(task), count);
  for (int64_t i = 1; i < count && i < pool.num_threads(); ++i) pool.Schedule([state] { state->help(); });
  state->help();
  // Spin first: the last tasks end soon, and a sleeping thread needs tens of microseconds to wake up.
  for (int i = 0; i < kSpins && state->done < count; ++i) pause();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == state->count; });
}
