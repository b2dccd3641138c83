#include "block_pool.h"

#include <stdexcept>
#include <string>

namespace himakernels {

BlockPool::BlockPool(int64_t size) : blocks_(size) {
  free_.reserve(size);
  for (int64_t block = size; block-- > 0;) free_.push_back(static_cast<int32_t>(block));
  counts_[kFree] = size;
}

template <class Change>
void BlockPool::change(int32_t block, const Change& change) {
  const State before = blocks_[block].state();
  change(blocks_[block]);
  const State after = blocks_[block].state();
  if (before == after) return;
  --counts_[before];
  ++counts_[after];
  if (after == kFree) free_.push_back(block);
}

int32_t BlockPool::take() {
  const int32_t block = free_.back();
  free_.pop_back();
  change(block, [](Block& b) { b.held = true; });
  return block;
}

void BlockPool::release(int32_t block) {
  change(block, [](Block& b) { b.held = false; });
}

void BlockPool::keep(int32_t block, bool pinned) {
  change(block, [pinned](Block& b) {
    ++b.kept;
    b.pinned += pinned;
  });
}

void BlockPool::drop(int32_t block, bool pinned) {
  change(block, [pinned](Block& b) {
    --b.kept;
    b.pinned -= pinned;
  });
}

void BlockPool::pin(int32_t block) {
  change(block, [](Block& b) { ++b.pinned; });
}

void BlockPool::unpin(int32_t block) {
  change(block, [](Block& b) { --b.pinned; });
}

void BlockPool::check_integrity(const std::vector<int64_t>& kept, const std::vector<int64_t>& pinned) const {
  int64_t counts[3] = {0, 0, 0};
  std::vector<bool> waits(blocks_.size(), false);
  for (int32_t block : free_) {
    if (waits[block]) throw std::logic_error("block " + std::to_string(block) + " waits twice to be taken");
    waits[block] = true;
  }
  for (int64_t b = 0; b < size(); ++b) {
    const Block& block = blocks_[b];
    ++counts[block.state()];
    if (block.kept != kept[b] || block.pinned != pinned[b])
      throw std::logic_error("block " + std::to_string(b) + " counts " + std::to_string(block.kept) + " nodes, " +
                             std::to_string(block.pinned) + " of them locked; there are " + std::to_string(kept[b]) +
                             " and " + std::to_string(pinned[b]));
    if (waits[b] != (block.state() == kFree))
      throw std::logic_error("block " + std::to_string(b) +
                             (waits[b] ? " is in use and" : " is free and does not wait") + " to be taken");
  }
  for (State state : {kFree, kEvictable, kInUse})
    if (counts[state] != counts_[state]) throw std::logic_error("the counts of blocks are wrong");
}

}  // namespace himakernels
