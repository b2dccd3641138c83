#include "attention_layout.h"

#include <algorithm>
#include <limits>

namespace himakernels {
namespace {

constexpr int64_t kChunk = 512;  // tokens below which a chunk takes the next tree in

Panel make_panel(const Forest& forest, int64_t first, int64_t count) {
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
  Panel panel{first, count, kMax, kMin, kMax, kMin};
  for (int64_t t = first; t < first + count; ++t) {
    panel.min_end = std::min(panel.min_end, forest.subtree_end[t]);
    panel.max_end = std::max(panel.max_end, forest.subtree_end[t]);
    if (forest.window == 0) continue;
    panel.min_position = std::min(panel.min_position, forest.position_ids[t]);
    panel.max_position = std::max(panel.max_position, forest.position_ids[t]);
  }
  return panel;
}

}  // namespace

AttentionLayout::AttentionLayout(const Forest& forest, int64_t key_width, int64_t query_width)
    : key_width(key_width), query_width(query_width), window(forest.window) {
  const auto size = [](const std::vector<Panel>& panels) { return static_cast<int64_t>(panels.size()); };
  for (int64_t begin = 0, end = 0; begin < forest.tokens; begin = end) {
    int64_t reach = begin;
    do {
      reach = std::max<int64_t>(reach, forest.subtree_end[end]);
      ++end;
    } while (end < forest.tokens && (reach > end || end - begin < kChunk));
    Chunk chunk{size(keys), 0, size(queries), 0};
    for (int64_t t = begin; t < end; t += key_width)
      keys.push_back(make_panel(forest, t, std::min(key_width, end - t)));
    for (int64_t t = begin; t < end; t += query_width)
      queries.push_back(make_panel(forest, t, std::min(query_width, end - t)));
    chunk.key_end = size(keys), chunk.query_end = size(queries);
    chunk_of.resize(queries.size(), static_cast<int32_t>(chunks.size()));
    chunks.push_back(chunk);
  }
  slot_token.assign(slots(), std::numeric_limits<int32_t>::max());
  slot_end.assign(slots(), 0);
  slot_position.assign(slots(), 0);
  for (size_t p = 0; p < keys.size(); ++p) {
    for (int64_t i = 0; i < keys[p].count; ++i) {
      const int64_t slot = p * key_width + i, token = keys[p].first + i;
      slot_token[slot] = static_cast<int32_t>(token);
      slot_end[slot] = forest.subtree_end[token];
      if (window != 0) slot_position[slot] = forest.position_ids[token];
    }
  }
}

void AttentionLayout::find_visible(const Chunk& chunk, const Panel& q, std::vector<Visible>* out) const {
  out->clear();
  const int64_t q_end = q.first + q.count;
  for (int64_t p = chunk.key_begin; p < chunk.key_end && keys[p].first < q_end; ++p) {
    const Panel& k = keys[p];
    const bool far = window != 0 && q.min_position - k.max_position >= window;
    if (k.max_end <= q.first || far) continue;
    const bool near = window == 0 || q.max_position - k.min_position < window;
    const bool whole = k.count == key_width && k.first + k.count <= q.first + 1 && k.min_end >= q_end && near;
    out->push_back({p, !whole});
  }
}

}  // namespace himakernels
