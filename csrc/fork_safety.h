// What a fork takes from its child: the other threads. A lock that one of them held stays held, and the
// workers that a loop would share its work with are gone.
#pragma once

#include <mutex>

namespace himakernels {

// Registers what is done around every later fork of this process.
void watch_forks();

// Whether this process is the child of a fork (after watch_forks) and has not become another program since.
bool is_forked();

// How many threads may share a loop: one in a child.
inline int usable_threads(int threads) { return is_forked() ? 1 : threads; }

// A mutex that is free in the child of a fork, with what it guards as it was between two operations: a fork waits until
// it can take it. Whoever holds one must not wait for another, or for what the forking thread holds (Python's GIL).
class ForkSafeMutex {
 public:
  ForkSafeMutex();
  ~ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  friend class Forks;
  std::mutex mutex_;
  ForkSafeMutex *previous_ = nullptr, *next_ = nullptr;  // of all that there are
};

}  // namespace himakernels
