#include "prefix_tree.h"

#include <algorithm>
#include <stdexcept>

namespace himakernels {
namespace {

void expect(bool holds, int64_t node, const char* what) {
  if (!holds) throw std::logic_error("node " + std::to_string(node) + ": " + what);
}

int64_t blocks_until(int64_t depth, int64_t block_size) { return (depth + block_size - 1) / block_size; }

}  // namespace

int64_t PrefixTree::add_root(NamespacePtr space) { return add_node(std::move(space), kNone, 0); }

std::pair<int64_t, int64_t> PrefixTree::descend(int64_t node, const int64_t* tokens, int64_t count) {
  int64_t matched = 0;
  while (matched < count) {
    const auto found = children_.find({node, tokens[matched]});
    if (found == children_.end()) break;
    const std::vector<int64_t>& edge = nodes_[found->second].tokens;
    const int64_t length = static_cast<int64_t>(edge.size()), stop = std::min(length, count - matched);
    int64_t common = 1;
    while (common < stop && tokens[matched + common] == edge[common]) ++common;
    matched += common;
    if (common < length) return {split(found->second, common), matched};
    node = found->second;
  }
  return {node, matched};
}

int64_t PrefixTree::append(int64_t parent, const int64_t* tokens, int64_t count, const int32_t* blocks,
                           int64_t num_blocks) {
  const int64_t child = add_node(nodes_[parent].space, parent, depth(parent));
  Node& node = nodes_[child];
  node.tokens.assign(tokens, tokens + count);
  node.blocks.assign(blocks, blocks + num_blocks);
  for (int32_t block : node.blocks) pool_.keep(block, false);
  num_tokens_ += count;
  link(parent, child);
  queue(child);
  queue(parent);
  return child;
}

// The node keeps its number, its children and its locks of its own.
int64_t PrefixTree::split(int64_t index, int64_t tokens) {
  const int64_t parent = nodes_[index].parent, upper = add_node(nodes_[index].space, parent, nodes_[index].begin);
  unlink(index);
  Node &above = nodes_[upper], &node = nodes_[index];
  const int64_t middle = node.begin + tokens, first = node.begin / block_size_;
  above.tokens.assign(node.tokens.begin(), node.tokens.begin() + tokens);
  above.blocks.assign(node.blocks.begin(), node.blocks.begin() + (blocks_until(middle, block_size_) - first));
  above.locks = node.locks;
  above.last_used = node.last_used;
  node.tokens.erase(node.tokens.begin(), node.tokens.begin() + tokens);
  node.blocks.erase(node.blocks.begin(), node.blocks.begin() + (middle / block_size_ - first));
  node.begin = middle;
  node.parent = upper;
  if (middle % block_size_ != 0) pool_.keep(node.blocks.front(), node.locks > 0);
  link(parent, upper);
  link(upper, index);
  return upper;
}

void PrefixTree::lock(int64_t node, int64_t count) {
  nodes_[node].own_locks += count;
  num_locks_ += count;
  add_locks(node, count, kNone);
}

void PrefixTree::unlock(int64_t node, int64_t count) {
  nodes_[node].own_locks -= count;
  num_locks_ -= count;
  drop_locks(node, count);
}

void PrefixTree::move_lock(int64_t from, int64_t to) {
  --nodes_[from].own_locks;
  ++nodes_[to].own_locks;
  add_locks(to, 1, from);
}

void PrefixTree::add_locks(int64_t index, int64_t count, int64_t above) {
  for (; index != above; index = nodes_[index].parent) {
    Node& node = nodes_[index];
    if (node.locks == 0)
      for (int32_t block : node.blocks) pool_.pin(block);
    node.locks += count;
    queue(index);
  }
}

void PrefixTree::drop_locks(int64_t index, int64_t count) {
  while (index != kNone) {
    Node& node = nodes_[index];
    const int64_t parent = node.parent;
    node.locks -= count;
    if (node.locks == 0) {
      for (int32_t block : node.blocks) pool_.unpin(block);
      if (node.space->live) {
        queue(index);
      } else {
        remove(index);
      }
    }
    index = parent;
  }
}

void PrefixTree::touch(int64_t node) {
  ++clock_;
  for (; node != kNone; node = nodes_[node].parent) nodes_[node].last_used = clock_;
}

void PrefixTree::evict_until_free(int64_t count) {
  while (pool_.free() < count) {
    const int64_t index = queue_.begin()->second;
    Node& node = nodes_[index];
    while (pool_.free() < count && !node.blocks.empty()) {
      pool_.drop(node.blocks.back(), false);
      node.blocks.pop_back();
    }
    if (node.blocks.empty()) {
      const int64_t parent = node.parent;
      remove(index);
      queue(parent);
    } else {
      const int64_t kept = (node.begin / block_size_ + node.blocks.size()) * block_size_ - node.begin;
      num_tokens_ -= static_cast<int64_t>(node.tokens.size()) - kept;
      node.tokens.resize(kept);
    }
  }
}

void PrefixTree::retire(int64_t root) {
  nodes_[root].space->live = false;
  const std::vector<int64_t> order = preorder(root);
  for (auto node = order.rbegin(); node != order.rend(); ++node) {
    queue(*node);
    if (nodes_[*node].locks == 0) remove(*node);
  }
}

int64_t PrefixTree::find_locked(int64_t handle) const {
  const int64_t index = handle & 0xFFFFFFFF;
  if (handle < 0 || index >= static_cast<int64_t>(nodes_.size())) return kNone;
  const Node& node = nodes_[index];
  return node.space != nullptr && node.generation == handle >> 32 && node.own_locks > 0 ? index : kNone;
}

bool PrefixTree::fits_behind(int64_t node, int32_t block) const {
  int64_t here = 0;
  for (int64_t above = keeper_above(node, block); above != kNone; above = keeper_above(nodes_[above].parent, block))
    ++here;
  return pool_.kept(block) == here;
}

int64_t PrefixTree::keeper_above(int64_t node, int32_t block) const {
  while (nodes_[node].parent != kNone && depth(node) % block_size_ != 0) {
    if (nodes_[node].blocks.back() == block) return node;
    if (nodes_[node].begin % block_size_ == 0 || nodes_[node].blocks.size() > 1) break;
    node = nodes_[node].parent;
  }
  return kNone;
}

// Where two nodes of the path know a block for the same place, the lower one's holds the tokens of both.
std::vector<int32_t> PrefixTree::block_table(int64_t node, int64_t first) const {
  std::vector<int32_t> table(std::max<int64_t>(blocks_until(depth(node), block_size_) - first, 0));
  for (int64_t end = first + static_cast<int64_t>(table.size()); end > first; node = nodes_[node].parent) {
    const std::vector<int32_t>& blocks = nodes_[node].blocks;
    const int64_t begin = nodes_[node].begin / block_size_;
    for (int64_t i = std::max(begin, first); i < end; ++i) table[i - first] = blocks[i - begin];
    end = std::min(end, begin);
  }
  return table;
}

int64_t PrefixTree::add_node(NamespacePtr space, int64_t parent, int64_t begin) {
  if (empty_.empty()) {
    empty_.push_back(static_cast<int64_t>(nodes_.size()));
    nodes_.emplace_back();
  }
  const int64_t index = empty_.back();
  empty_.pop_back();
  Node& node = nodes_[index];
  node.space = std::move(space);
  node.parent = parent;
  node.begin = begin;
  num_nodes_ += parent != kNone;
  return index;
}

void PrefixTree::link(int64_t parent, int64_t index) {
  Node& node = nodes_[index];
  children_[{parent, node.tokens.front()}] = index;
  node.previous = kNone;
  node.next = nodes_[parent].first_child;
  if (node.next != kNone) nodes_[node.next].previous = index;
  nodes_[parent].first_child = index;
}

void PrefixTree::unlink(int64_t index) {
  const Node& node = nodes_[index];
  children_.erase({node.parent, node.tokens.front()});
  (node.previous == kNone ? nodes_[node.parent].first_child : nodes_[node.previous].next) = node.next;
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
}

// Of an unlocked node without children.
void PrefixTree::remove(int64_t index) {
  Node& node = nodes_[index];
  if (node.parent != kNone) {
    unlink(index);
    --num_nodes_;
  }
  if (node.queued) queue_.erase({node.last_used, index});
  for (int32_t block : node.blocks) pool_.drop(block, false);
  num_tokens_ -= static_cast<int64_t>(node.tokens.size());
  const int64_t generation = (node.generation + 1) & 0x7FFFFFFF;
  node = Node();
  node.generation = generation;
  empty_.push_back(index);
}

// Enters the node into the queue, or takes it out, as it must be now. `last_used` only changes while it is out.
void PrefixTree::queue(int64_t index) {
  Node& node = nodes_[index];
  if (node.queued == evictable(node)) return;
  node.queued = !node.queued;
  if (node.queued) {
    queue_.emplace(node.last_used, index);
  } else {
    queue_.erase({node.last_used, index});
  }
}

std::vector<int64_t> PrefixTree::preorder(int64_t root) const {
  std::vector<int64_t> order, stack = {root};
  while (!stack.empty()) {
    order.push_back(stack.back());
    stack.pop_back();
    for (int64_t child = nodes_[order.back()].first_child; child != kNone; child = nodes_[child].next)
      stack.push_back(child);
  }
  return order;
}

void PrefixTree::check_integrity(const std::vector<int64_t>& roots) const {
  int64_t places = 0, nodes = 0, tokens = 0, locks = 0, queued = 0;
  std::vector<int64_t> kept(pool_.size(), 0), pinned(pool_.size(), 0), keeper(pool_.size(), kNone);
  for (int64_t root = 0; root < static_cast<int64_t>(nodes_.size()); ++root) {
    if (nodes_[root].space == nullptr || nodes_[root].parent != kNone) continue;
    const bool live = std::find(roots.begin(), roots.end(), root) != roots.end();
    expect(nodes_[root].space->live == live, root, "a live root that is lost, or a retired one that is not");
    for (int64_t index : preorder(root)) {
      const Node& node = nodes_[index];
      check_node(index);
      expect(node.space == nodes_[root].space, index, "in another namespace than its root");
      for (int32_t block : node.blocks) {
        ++kept[block];
        pinned[block] += node.locks > 0;
        const bool first = block == node.blocks.front() && node.begin % block_size_ != 0;
        expect(keeper[block] == (first ? keeper_above(node.parent, block) : kNone), index,
               "a block that keeps the tokens of two places");
        keeper[block] = index;
      }
      ++places;
      nodes += node.parent != kNone;
      tokens += static_cast<int64_t>(node.tokens.size());
      locks += node.own_locks;
      queued += node.queued;
    }
  }
  const auto size = [](const auto& container) { return static_cast<int64_t>(container.size()); };
  if (places + size(empty_) != size(nodes_)) throw std::logic_error("nodes that no root leads to");
  if (nodes != num_nodes_ || tokens != num_tokens_ || locks != num_locks_)
    throw std::logic_error("wrong counts of nodes, tokens or locks");
  if (size(children_) != nodes || size(queue_) != queued)
    throw std::logic_error("an edge, or a place in the queue, without a node");
  pool_.check_integrity(kept, pinned);
}

void PrefixTree::check_node(int64_t index) const {
  const Node& node = nodes_[index];
  int64_t locks = node.own_locks;
  for (int64_t child = node.first_child; child != kNone; child = nodes_[child].next) {
    locks += nodes_[child].locks;
    expect(nodes_[child].parent == index, child, "the child of another");
  }
  expect(node.own_locks >= 0 && node.locks == locks, index, "locks that do not add up");
  expect(node.space->live || node.locks > 0, index, "retired, unlocked and still there");
  expect(node.queued == evictable(node), index, "in the queue, or out of it, against the rule");
  expect(!node.queued || queue_.count({node.last_used, index}) == 1, index, "in the queue under another time");
  const int64_t blocks = blocks_until(node.end(), block_size_) - node.begin / block_size_;
  expect(static_cast<int64_t>(node.blocks.size()) == blocks, index, "blocks that do not fit its tokens");
  if (node.parent == kNone) {
    expect(node.begin == 0 && node.tokens.empty(), index, "a root with tokens");
    return;
  }
  const Node& parent = nodes_[node.parent];
  expect(!node.tokens.empty() && node.begin == parent.end(), index, "does not begin where its parent ends");
  expect(node.last_used <= parent.last_used && parent.last_used <= clock_, index,
         "used after its parent, or in future");
  const auto edge = children_.find({node.parent, node.tokens.front()});
  expect(edge != children_.end() && edge->second == index, index, "not found under its first token");
}

}  // namespace himakernels
