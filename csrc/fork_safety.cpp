#include "fork_safety.h"

#ifndef _WIN32
#include <pthread.h>
#endif

#include <atomic>
#include <new>

namespace himakernels {

class Forks {
 public:
  static void watch() {
#ifndef _WIN32
    static const int error = pthread_atfork(before, in_parent, in_child);
    if (error != 0) throw std::bad_alloc();
#endif
  }

  static void add(ForkSafeMutex* mutex) {
    const std::lock_guard<std::mutex> lock(list_);
    mutex->next_ = first_;
    if (first_ != nullptr) first_->previous_ = mutex;
    first_ = mutex;
  }
  static void remove(ForkSafeMutex* mutex) {
    const std::lock_guard<std::mutex> lock(list_);
    (mutex->previous_ != nullptr ? mutex->previous_->next_ : first_) = mutex->next_;
    if (mutex->next_ != nullptr) mutex->next_->previous_ = mutex->previous_;
  }

  static std::atomic<bool> forked;

 private:
  static void before() {
    list_.lock();
    for (ForkSafeMutex* m = first_; m != nullptr; m = m->next_) m->lock();
  }
  static void in_parent() {
    for (ForkSafeMutex* m = first_; m != nullptr; m = m->next_) m->unlock();
    list_.unlock();
  }
  static void in_child() {
    forked = true;
    in_parent();
  }

  static std::mutex list_;
  static ForkSafeMutex* first_;
};

std::atomic<bool> Forks::forked{false};
std::mutex Forks::list_;
ForkSafeMutex* Forks::first_ = nullptr;

void watch_forks() { Forks::watch(); }
bool is_forked() { return Forks::forked.load(std::memory_order_relaxed); }

ForkSafeMutex::ForkSafeMutex() { Forks::add(this); }
ForkSafeMutex::~ForkSafeMutex() { Forks::remove(this); }

}  // namespace himakernels
