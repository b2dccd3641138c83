#include "workers.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <signal.h>
#endif

#include "fork_safety.h"

namespace himakernels {
namespace {

// One call of share_work.
struct Job {
  const std::function<void()>& work;
  int wanted;                  // threads that may still begin
  std::atomic<int> inside{0};  // threads that have begun and not ended
};

// No signal is delivered to a worker: a program's handlers run in its own threads.
class SignalsBlocked {
 public:
#ifndef _WIN32
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
#endif
};

class Workers {
 public:
  void run(int threads, const std::function<void()>& work) {
    Job job{work, threads - 1};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      start(threads - 1);
      jobs_.push_back(&job);
      places_ += job.wanted;
    }
    for (int i = 1; i < threads; ++i) wake_.notify_one();
    work();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (job.wanted > 0) close(&job);
    }
    if (spin_until([&] { return job.inside == 0; })) {
      // The last worker may still hold the mutex; the job must outlive that.
      const std::lock_guard<std::mutex> lock(mutex_);
      return;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return job.inside == 0; });
  }

 private:
  // With too few threads the others do the work.
  void start(int count) {
    const SignalsBlocked blocked;
    try {
      for (; started_ < count; ++started_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  void close(Job* job) {
    places_ -= job->wanted;
    job->wanted = 0;
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), job));
  }

  [[noreturn]] void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (jobs_.empty()) {
        lock.unlock();
        spin_until([&] { return places_ > 0; });
        lock.lock();
      }
      wake_.wait(lock, [&] { return !jobs_.empty(); });
      Job* job = jobs_.front();
      ++job->inside;
      --places_;
      if (--job->wanted == 0) jobs_.erase(jobs_.begin());
      lock.unlock();
      job->work();
      lock.lock();
      if (--job->inside == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Job*> jobs_;      // with places left, the oldest first
  std::atomic<int> places_{0};  // the sum of their `wanted`
  int started_ = 0;
};

}  // namespace

void share_work(int threads, const std::function<void()>& work) {
  threads = usable_threads(threads);
  if (threads <= 1) return work();
  static Workers* const workers = new Workers;  // never destroyed: its threads live as long as the process
  workers->run(threads, work);
}

}  // namespace himakernels
