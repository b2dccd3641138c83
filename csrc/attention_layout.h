// How the tokens of a packed forest are cut into panels, and which panels of keys a panel of queries sees.
#pragma once

#include <cstdint>
#include <vector>

namespace himakernels {

// Which keys a query sees: key <= query < subtree_end[key], and with a window also
// position_ids[query] - position_ids[key] < window.
struct Forest {
  const int32_t* subtree_end;   // [tokens]
  const int32_t* position_ids;  // [tokens], >= 0; or null without a window
  int64_t tokens;
  int32_t window;  // 0: none
};

struct Panel {
  int64_t first, count;  // tokens [first, first + count)
  int32_t min_end, max_end, min_position, max_position;
};

// A run of whole trees: nothing in it sees anything outside.
struct Chunk {
  int64_t key_begin, key_end, query_begin, query_end;  // ranges of panels
};

struct Visible {
  int64_t panel;
  bool masked;  // some pair of the two panels is not visible
};

// Key panels have `key_width` slots, of which the last of a chunk may be in part empty; query panels hold `query_width`
// tokens or fewer. No panel leaves its chunk.
struct AttentionLayout {
  AttentionLayout(const Forest& forest, int64_t key_width, int64_t query_width);

  int64_t slots() const { return static_cast<int64_t>(keys.size()) * key_width; }
  // The key panels that some query of `queries` sees, in ascending order.
  void find_visible(const Chunk& chunk, const Panel& queries, std::vector<Visible>* out) const;

  int64_t key_width, query_width;
  int32_t window;
  std::vector<Panel> keys, queries;
  std::vector<Chunk> chunks;
  std::vector<int32_t> chunk_of;  // of each query panel
  // Of each slot: its token, subtree_end and position; an empty slot ends before it begins.
  std::vector<int32_t> slot_token, slot_end, slot_position;
};

}  // namespace himakernels
