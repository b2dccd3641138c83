// The threads that loops of csrc share their work with.
//
// They are our own, not OpenMP's, for the sake of a machine that others use as well. There a thread can lose its core
// in the middle of a loop. OpenMP ends a loop when all of its threads have come, also those that found nothing left to
// do, and meanwhile its threads spin on cores that somebody needs. Here a loop ends when its work is done, and a thread
// that waits longer than a few microseconds sleeps.
#pragma once

#include <chrono>
#include <functional>

namespace himakernels {

// Calls `work` in this thread and, while that call lasts, in up to `threads` - 1 others. Returns when all calls that
// began have returned; a thread that has not begun by the end of this one's call no longer begins. `work` takes pieces
// from what it shares with the other calls until none is left, and does not throw. In the child of a fork there is one
// thread.
void share_work(int threads, const std::function<void()>& work);

// Whether `done` becomes true within some microseconds: what a thread tries before it sleeps. Between two loops of one
// operation that is long enough, and sleeping and waking up would take longer.
template <class Done>
bool spin_until(const Done& done) {
  constexpr std::chrono::microseconds kSpin{20};
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    if (done()) return true;
#if defined(__x86_64__)
    for (int i = 0; i < 8; ++i) __builtin_ia32_pause();
#endif
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace himakernels
