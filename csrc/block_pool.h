// The blocks of a cache, by number: which are free, which are in use, which are only kept for as long as nobody needs
// them.
#pragma once

#include <cstdint>
#include <vector>

namespace himakernels {

// A block is held by the caller who took it, and kept by any number of nodes of a tree, each of which may pin it. It is
// free when neither is the case, evictable when it is kept and neither held nor pinned, and in use otherwise.
class BlockPool {
 public:
  explicit BlockPool(int64_t size);

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t free() const { return counts_[kFree]; }
  int64_t evictable() const { return counts_[kEvictable]; }
  bool held(int32_t block) const { return blocks_[block].held; }
  int64_t kept(int32_t block) const { return blocks_[block].kept; }

  // A free block, now held; the one that was freed last. There must be one.
  int32_t take();
  void release(int32_t block);
  void keep(int32_t block, bool pinned);
  void drop(int32_t block, bool pinned);
  void pin(int32_t block);
  void unpin(int32_t block);

  // Throws std::logic_error unless blocks are kept and pinned as often as the caller has counted, and the free ones and
  // no others wait to be taken.
  void check_integrity(const std::vector<int64_t>& kept, const std::vector<int64_t>& pinned) const;

 private:
  enum State { kFree, kEvictable, kInUse };

  struct Block {
    bool held = false;
    int64_t kept = 0, pinned = 0;

    State state() const { return held || pinned > 0 ? kInUse : kept > 0 ? kEvictable : kFree; }
  };

  template <class Change>
  void change(int32_t block, const Change& change);

  std::vector<Block> blocks_;
  std::vector<int32_t> free_;
  int64_t counts_[3] = {0, 0, 0};  // of each state
};

}  // namespace himakernels
