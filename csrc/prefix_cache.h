// Which blocks keep the keys and values of which tokens, for which version of which policy: blocks, trees and versions
// behind one mutex. himakernels/prefix_cache.py is the contract.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "block_pool.h"
#include "fork_safety.h"
#include "prefix_tree.h"

namespace himakernels {

struct OutOfBlocksError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Errors of arguments are std::invalid_argument, and leave everything as it was.
class PrefixCache {
 public:
  struct Match {
    int64_t node, tokens;
    std::vector<int32_t> blocks;
  };

  struct Insertion {
    int64_t node, new_tokens;
    std::vector<int32_t> blocks;  // of the tree, where the caller's would be
  };

  struct Fork {
    std::vector<int32_t> sources, targets, tokens;  // blocks, and how many tokens of each are copied; or nothing
  };

  struct Stats {
    int64_t num_blocks, free_blocks, evictable_blocks, nodes, tokens, locks;
    int64_t queried_tokens, matched_tokens, evicted_blocks;  // since the cache was made
  };

  PrefixCache(int64_t num_blocks, int64_t block_size);

  Match match(const std::string& policy, int64_t version, const int64_t* tokens, int64_t count);
  Insertion insert(int64_t node, const int64_t* tokens, int64_t count, const int64_t* blocks, int64_t num_blocks);
  void lock(int64_t node, int64_t count);
  void unlock(int64_t node, int64_t count);
  Fork fork(int64_t node, int64_t count);
  std::vector<int32_t> allocate(int64_t count);
  void release(const int64_t* blocks, int64_t count);
  int64_t evict(int64_t count);
  int64_t reset();
  int64_t reset(const std::string& policy);
  Stats stats() const;
  void check_integrity() const;

 private:
  struct Policy {
    int64_t version = -1;              // the newest that was asked for
    int64_t root = PrefixTree::kNone;  // of its tree, or kNone
  };

  int64_t root_of(const std::string& policy, int64_t version);
  int64_t locked(int64_t handle) const;
  void check_locks(const char* name, int64_t count) const;
  std::vector<int32_t> checked_blocks(const int64_t* blocks, int64_t count) const;
  std::vector<int32_t> take(int64_t count);
  void retire(Policy& policy);

  mutable ForkSafeMutex mutex_;
  const int64_t block_size_;
  BlockPool pool_;
  PrefixTree tree_;
  std::unordered_map<std::string, Policy> policies_;
  int64_t queried_ = 0, matched_ = 0, evicted_ = 0;
};

}  // namespace himakernels
