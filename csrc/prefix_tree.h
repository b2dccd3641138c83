// Radix trees over token ids, one for each version of a policy, whose nodes know the blocks that keep their tokens.
//
// A node stands for the tokens at depths [begin, end), and keeps the blocks that these lie in: block i of a sequence
// holds its depths [i * block_size, (i + 1) * block_size). Where a node begins inside a block, its first block also
// holds the tokens before it: it is its parent's last block, if one sequence wrote both, or has a copy of what that
// holds.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block_pool.h"

namespace himakernels {

class PrefixTree {
 public:
  struct Namespace {
    std::string policy;
    int64_t version;
    bool live;  // a retired one keeps what is locked, and loses it with its last lock
  };
  using NamespacePtr = std::shared_ptr<Namespace>;

  PrefixTree(BlockPool& pool, int64_t block_size) : pool_(pool), block_size_(block_size) {}

  // A node without tokens, without parent.
  int64_t add_root(NamespacePtr space);

  // The node that ends where the path from `node` along the tokens leaves the tree, and how many of them are in it. A
  // node that goes on behind that point is split: the upper part is new, so that what is locked keeps its number.
  std::pair<int64_t, int64_t> descend(int64_t node, const int64_t* tokens, int64_t count);

  // A new leaf below `node`, no child of which begins with the first of its tokens.
  int64_t append(int64_t node, const int64_t* tokens, int64_t count, const int32_t* blocks, int64_t num_blocks);

  // A lock is one of its node's own, and counts in all nodes from there to the root, or to `above`, exclusive.
  void lock(int64_t node, int64_t count);
  void unlock(int64_t node, int64_t count);
  void move_lock(int64_t from, int64_t to);  // `to` is `from` or below it

  // The path to the node was used now.
  void touch(int64_t node);

  // Drops the last blocks of the least recently used unlocked leaves until `count` blocks are free, which must be
  // possible; O(log leaves) a leaf.
  void evict_until_free(int64_t count);

  // Drops all that is not locked, now, and the rest when it is unlocked.
  void retire(int64_t root);

  // The node behind a number that callers see, kNone unless it has locks of its own.
  int64_t find_locked(int64_t handle) const;
  int64_t handle(int64_t node) const { return nodes_[node].generation << 32 | node; }

  // The blocks of a path, from block `first` of the sequence on.
  std::vector<int32_t> block_table(int64_t node, int64_t first) const;

  // Whether a block may be the first of a new node below `node`: no node keeps it, or only those at the end of the
  // path.
  bool fits_behind(int64_t node, int32_t block) const;

  int64_t depth(int64_t node) const { return nodes_[node].end(); }
  int64_t own_locks(int64_t node) const { return nodes_[node].own_locks; }
  const Namespace& space(int64_t node) const { return *nodes_[node].space; }
  int64_t num_nodes() const { return num_nodes_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_locks() const { return num_locks_; }

  // Throws std::logic_error that says what is wrong. `roots`: of all live namespaces.
  void check_integrity(const std::vector<int64_t>& roots) const;

  static constexpr int64_t kNone = -1;

 private:
  struct Node {
    int64_t parent = kNone, first_child = kNone, previous = kNone, next = kNone;  // siblings
    int64_t generation = 0;                                                       // of the place in nodes_
    int64_t begin = 0;
    std::vector<int64_t> tokens;
    std::vector<int32_t> blocks;
    int64_t own_locks = 0, locks = 0;  // of the node; of its subtree
    int64_t last_used = 0;             // at least that of its children
    bool queued = false;
    NamespacePtr space;  // null: the place is empty

    int64_t end() const { return begin + static_cast<int64_t>(tokens.size()); }
  };

  struct Edge {
    int64_t parent, token;
    bool operator==(const Edge& other) const { return parent == other.parent && token == other.token; }
  };

  struct EdgeHash {
    size_t operator()(const Edge& edge) const {
      uint64_t hash = static_cast<uint64_t>(edge.parent) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(edge.token);
      hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
      return hash ^ (hash >> 32);
    }
  };

  int64_t add_node(NamespacePtr space, int64_t parent, int64_t begin);
  int64_t split(int64_t node, int64_t tokens);
  void link(int64_t parent, int64_t node);
  void unlink(int64_t node);
  void remove(int64_t node);
  void add_locks(int64_t node, int64_t count, int64_t above);
  void drop_locks(int64_t node, int64_t count);
  void queue(int64_t node);
  bool evictable(const Node& node) const {
    return node.space->live && node.parent != kNone && node.locks == 0 && node.first_child == kNone;
  }
  // From `node` up, the first node that keeps `block` for the place where `node` ends, which is inside a block.
  int64_t keeper_above(int64_t node, int32_t block) const;
  std::vector<int64_t> preorder(int64_t root) const;
  void check_node(int64_t node) const;

  BlockPool& pool_;
  const int64_t block_size_;
  std::vector<Node> nodes_;
  std::vector<int64_t> empty_;                            // places in nodes_
  std::unordered_map<Edge, int64_t, EdgeHash> children_;  // (node, first token) -> child
  std::set<std::pair<int64_t, int64_t>> queue_;           // (last_used, node) of the unlocked leaves
  int64_t clock_ = 0;
  int64_t num_nodes_ = 0, num_tokens_ = 0, num_locks_ = 0;  // roots are no nodes here
};

}  // namespace himakernels
