#include "prefix_cache.h"

#include <algorithm>
#include <limits>
#include <mutex>

namespace himakernels {
namespace {

using std::to_string;
using Guard = std::lock_guard<ForkSafeMutex>;

[[noreturn]] void bad(const std::string& message) { throw std::invalid_argument(message); }

std::string got(const int64_t* values, int64_t index) {
  return ", got " + to_string(values[index]) + " at index " + to_string(index);
}

void check_least(const char* name, int64_t value, int64_t least) {
  if (value < least)
    bad(std::string(name) + ": expected a number >= " + to_string(least) + ", got " + to_string(value));
}

// Blocks, and tokens of one, are counted in 32 bits: no depth of a sequence that fits the memory overflows 64.
int64_t checked_size(const char* name, int64_t value) {
  check_least(name, value, 1);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (value > kMost)
    bad(std::string(name) + ": expected a number <= " + to_string(kMost) + ", got " + to_string(value));
  return value;
}

// Locks that may be asked for at a time, on top of those that there are: far enough from 2^63 for those of matches.
constexpr int64_t kMostLocks = int64_t{1} << 62;

}  // namespace

PrefixCache::PrefixCache(int64_t num_blocks, int64_t block_size)
    : block_size_(checked_size("block_size", block_size)),
      pool_(checked_size("num_blocks", num_blocks)),
      tree_(pool_, block_size_) {}

PrefixCache::Match PrefixCache::match(const std::string& policy, int64_t version, const int64_t* tokens,
                                      int64_t count) {
  check_least("policy_version", version, 0);
  const Guard guard(mutex_);
  const auto [node, matched] = tree_.descend(root_of(policy, version), tokens, count);
  const PrefixTree::Namespace& space = tree_.space(node);
  if (space.policy != policy || space.version != version)
    throw std::logic_error("a match of " + policy + " " + to_string(version) + " found " + space.policy + " " +
                           to_string(space.version));
  tree_.lock(node, 1);
  tree_.touch(node);
  queried_ += count;
  matched_ += matched;
  return {tree_.handle(node), matched, tree_.block_table(node, 0)};
}

PrefixCache::Insertion PrefixCache::insert(int64_t handle, const int64_t* tokens, int64_t count, const int64_t* blocks,
                                           int64_t num_blocks) {
  const Guard guard(mutex_);
  const int64_t from = locked(handle), begin = tree_.depth(from);
  const int64_t first = begin / block_size_, last = (begin + count + block_size_ - 1) / block_size_;
  if (num_blocks != last - first)
    bad("block_ids: expected " + to_string(last - first) + " blocks of " + to_string(block_size_) + " for the depths " +
        to_string(begin) + " to " + to_string(begin + count) + ", got " + to_string(num_blocks));
  const int64_t* negative = std::find_if(tokens, tokens + count, [](int64_t token) { return token < 0; });
  if (negative != tokens + count) bad("token_ids: expected ids >= 0" + got(tokens, negative - tokens));
  const std::vector<int32_t> block = checked_blocks(blocks, num_blocks);
  auto [node, known] = tree_.descend(from, tokens, count);
  if (known < count) {
    const int64_t skipped = (begin + known) / block_size_ - first;
    for (int64_t i = skipped; i < num_blocks; ++i) {
      const bool fits = i == skipped ? tree_.fits_behind(node, block[i]) : pool_.kept(block[i]) == 0;
      if (pool_.held(block[i]) && fits) continue;
      bad("block_ids: expected blocks that the caller has allocated and that keep no other tokens" + got(blocks, i));
    }
    node = tree_.append(node, tokens + known, count - known, block.data() + skipped, num_blocks - skipped);
  }
  tree_.move_lock(from, node);
  tree_.touch(node);
  return {tree_.handle(node), count - known, tree_.block_table(node, first)};
}

void PrefixCache::lock(int64_t handle, int64_t count) {
  check_least("count", count, 1);
  const Guard guard(mutex_);
  const int64_t node = locked(handle);
  check_locks("count", count);
  tree_.lock(node, count);
}

void PrefixCache::unlock(int64_t handle, int64_t count) {
  check_least("count", count, 1);
  const Guard guard(mutex_);
  const int64_t node = locked(handle);
  if (tree_.own_locks(node) < count)
    bad("count: expected at most " + to_string(tree_.own_locks(node)) + ", the locks of the node, got " +
        to_string(count));
  tree_.unlock(node, count);
}

PrefixCache::Fork PrefixCache::fork(int64_t handle, int64_t count) {
  check_least("n", count, 1);
  const Guard guard(mutex_);
  const int64_t node = locked(handle);
  check_locks("n", count);
  Fork fork;
  const int64_t full = tree_.depth(node) / block_size_, inside = tree_.depth(node) % block_size_;
  if (inside > 0) {
    fork.targets = take(count);
    fork.sources.assign(count, tree_.block_table(node, full).front());
    fork.tokens.assign(count, static_cast<int32_t>(inside));
  }
  if (count > 1) tree_.lock(node, count - 1);
  return fork;
}

std::vector<int32_t> PrefixCache::allocate(int64_t count) {
  check_least("count", count, 0);
  const Guard guard(mutex_);
  return take(count);
}

void PrefixCache::release(const int64_t* blocks, int64_t count) {
  const Guard guard(mutex_);
  const std::vector<int32_t> block = checked_blocks(blocks, count);
  for (int64_t i = 0; i < count; ++i)
    if (!pool_.held(block[i])) bad("block_ids: expected blocks that the caller has allocated" + got(blocks, i));
  for (int32_t b : block) pool_.release(b);
}

int64_t PrefixCache::evict(int64_t count) {
  check_least("count", count, 0);
  const Guard guard(mutex_);
  const int64_t possible = std::min(count, pool_.evictable());
  tree_.evict_until_free(pool_.free() + possible);
  evicted_ += possible;
  return possible;
}

int64_t PrefixCache::reset() {
  const Guard guard(mutex_);
  const int64_t before = pool_.free();
  for (auto& [name, policy] : policies_) retire(policy);
  return pool_.free() - before;
}

int64_t PrefixCache::reset(const std::string& name) {
  const Guard guard(mutex_);
  const int64_t before = pool_.free();
  const auto policy = policies_.find(name);
  if (policy != policies_.end()) retire(policy->second);
  return pool_.free() - before;
}

PrefixCache::Stats PrefixCache::stats() const {
  const Guard guard(mutex_);
  return {pool_.size(),      pool_.free(), pool_.evictable(), tree_.num_nodes(), tree_.num_tokens(),
          tree_.num_locks(), queried_,     matched_,          evicted_};
}

void PrefixCache::check_integrity() const {
  const Guard guard(mutex_);
  std::vector<int64_t> roots;
  for (const auto& [name, policy] : policies_) {
    if (policy.root == PrefixTree::kNone) continue;
    const PrefixTree::Namespace& space = tree_.space(policy.root);
    if (space.policy != name || space.version != policy.version)
      throw std::logic_error("the tree of policy " + name + " is that of " + space.policy + " " +
                             to_string(space.version));
    roots.push_back(policy.root);
  }
  tree_.check_integrity(roots);
}

// The tree of a version. A newer one retires the tree of the version before; an older one gets a retired tree of
// its own, which nobody else finds.
int64_t PrefixCache::root_of(const std::string& name, int64_t version) {
  Policy& policy = policies_[name];
  if (version > policy.version) {
    retire(policy);
    policy.version = version;
  }
  if (version == policy.version && policy.root != PrefixTree::kNone) return policy.root;
  const bool live = version == policy.version;
  const int64_t root =
      tree_.add_root(std::make_shared<PrefixTree::Namespace>(PrefixTree::Namespace{name, version, live}));
  if (live) policy.root = root;
  return root;
}

int64_t PrefixCache::locked(int64_t handle) const {
  const int64_t node = tree_.find_locked(handle);
  if (node == PrefixTree::kNone) bad("node: expected a locked node, got " + to_string(handle));
  return node;
}

void PrefixCache::check_locks(const char* name, int64_t count) const {
  const int64_t most = kMostLocks - std::min(tree_.num_locks(), kMostLocks);
  if (count > most)
    bad(std::string(name) + ": expected at most " + to_string(most) + " more locks (there are " +
        to_string(tree_.num_locks()) + "), got " + to_string(count));
}

// Blocks of the pool, each of them once.
std::vector<int32_t> PrefixCache::checked_blocks(const int64_t* blocks, int64_t count) const {
  for (int64_t i = 0; i < count; ++i)
    if (blocks[i] < 0 || blocks[i] >= pool_.size())
      bad("block_ids: expected values in [0, " + to_string(pool_.size()) + ")" + got(blocks, i));
  std::vector<int32_t> sorted(blocks, blocks + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) bad("block_ids: expected each block once, got " + to_string(*twice) + " twice");
  return {blocks, blocks + count};
}

std::vector<int32_t> PrefixCache::take(int64_t count) {
  const int64_t free = pool_.free(), evictable = pool_.evictable();
  if (count > free + evictable)
    throw OutOfBlocksError("count: expected at most " + to_string(free + evictable) + " blocks (" + to_string(free) +
                           " free, " + to_string(evictable) + " evictable, of " + to_string(pool_.size()) + "), got " +
                           to_string(count));
  tree_.evict_until_free(count);
  evicted_ += pool_.free() - free;
  std::vector<int32_t> blocks(count);
  for (int32_t& block : blocks) block = pool_.take();
  return blocks;
}

void PrefixCache::retire(Policy& policy) {
  if (policy.root != PrefixTree::kNone) tree_.retire(policy.root);
  policy.root = PrefixTree::kNone;
}

}  // namespace himakernels
