#include "tree_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_rows.h"
#include "buffer.h"
#include "parallel.h"
#include "tile.h"

namespace himakernels {
namespace {

constexpr int64_t kGroup = 8;              // key panels whose scores are in the cache at a time
constexpr int64_t kWaveBytes = 256 << 20;  // of packed operands and sums in memory at a time, if one key head fits
constexpr int64_t kSmall = 1 << 14;        // elements of q below which a second thread costs more than it does
constexpr double kLn2 = 0.69314718055994530942;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Lines token_lines(const HeadsView& x, DType dtype, int64_t head) {
  const int64_t size = dtype == DType::kFloat32 ? 4 : 2;
  return {static_cast<const char*>(x.data) + head * x.head_stride * size, dtype, x.token_stride, 1};
}
Lines dim_lines(const HeadsView& x, DType dtype, int64_t head) {
  const Lines tokens = token_lines(x, dtype, head);
  return {tokens.data, dtype, 1, x.token_stride};
}

// Of a sink in units of 2^level; infinite where nothing else counts.
double sink_weight(float sink, float level) { return std::exp(sink - level * kLn2); }

// Beside a weight of 1e30 the share is at the end of fp32.
double sink_probability(float sink, float level, float share) {
  const double weight = sink_weight(sink, level);
  return weight > 1e30 ? 1.0 : weight * share;
}

template <class Store>
void with_dtype(DType dtype, void* data, const Store& run) {
  switch (dtype) {
    case DType::kFloat32:
      return run(static_cast<float*>(data));
    case DType::kBFloat16:
      return run(static_cast<BFloat16*>(data));
    case DType::kFloat16:
      return run(static_cast<Float16*>(data));
  }
}

// What forward and backward share: the cut into panels, and how many threads are worth their while.
struct Work {
  explicit Work(const TreeAttention& a)
      : a(a),
        tile(pick_tile(false)),
        rows(pick_attention_rows(tile.nr)),
        layout(a.forest, tile.mr, tile.nr),
        rule{a.scale, a.softcap, a.forest.window},
        dim_panels(ceil_div(a.head_dim, tile.mr)),
        dim_columns(ceil_div(a.head_dim, tile.nr)),
        group(a.query_heads / a.key_heads),
        threads(a.forest.tokens * a.query_heads * a.head_dim < kSmall ? 1 : a.threads) {}

  const TreeAttention& a;
  const Tile tile;
  const AttentionRows rows;
  const AttentionLayout layout;
  const ScoreRule rule;
  const int64_t dim_panels, dim_columns;  // of head_dim, in rows and in columns of the tile
  const int64_t group;                    // query heads to a key head
  const int threads;

  int64_t tile_size() const { return tile.mr * tile.nr; }
  int64_t slots() const { return layout.slots(); }
  KeySlots key_slots(int64_t panel) const {
    const int64_t s = panel * tile.mr;
    return {layout.slot_token.data() + s, layout.slot_end.data() + s, layout.slot_position.data() + s};
  }
  void fill_lanes(const Panel& queries, QueryLanes* lanes) const {
    for (int64_t i = 0; i < tile.nr; ++i) {
      const int64_t t = queries.first + std::min(i, queries.count - 1);
      lanes->token[i] = static_cast<int32_t>(t);
      lanes->position[i] = layout.window != 0 ? a.forest.position_ids[t] : 0;
    }
  }

  // One panel of keys of x, tokens as the lines of the product: [head_dim][mr].
  void pack_tokens(const HeadsView& x, int64_t head, int64_t panel, float* out) const {
    const Panel& k = layout.keys[panel];
    pack(token_lines(x, a.dtype, head), k.first, k.count, 0, a.head_dim, tile.mr, false, 0,
         out + panel * tile.mr * a.head_dim);
  }
  // The same with the dims as lines: dim_panels times [slots][mr].
  void pack_dims(const HeadsView& x, int64_t head, int64_t panel, float* out) const {
    const Panel& k = layout.keys[panel];
    const int64_t mr = tile.mr, stride = slots() * mr;
    out += panel * mr * mr;
    pack(dim_lines(x, a.dtype, head), 0, a.head_dim, k.first, k.count, mr, false, stride, out);
    for (int64_t p = 0; p < dim_panels && k.count < mr; ++p)
      std::fill(out + p * stride + k.count * mr, out + p * stride + mr * mr, 0.0f);
  }
  // A panel of queries, tokens as lines: [head_dim][nr].
  void pack_queries(const HeadsView& x, int64_t head, const Panel& q, float* out) const {
    pack(token_lines(x, a.dtype, head), q.first, q.count, 0, a.head_dim, tile.nr, false, 0, out);
  }
  // The same with the dims as lines: dim_columns times [nr tokens][nr].
  void pack_query_dims(const HeadsView& x, int64_t head, const Panel& q, float* out) const {
    const int64_t nr = tile.nr;
    pack(dim_lines(x, a.dtype, head), 0, a.head_dim, q.first, q.count, nr, false, nr * nr, out);
    for (int64_t p = 0; p < dim_columns && q.count < nr; ++p)
      std::fill(out + p * nr * nr + q.count * nr, out + (p + 1) * nr * nr, 0.0f);
  }

  // sums [head_dim][nr] += values^T weights for panels [begin, end) of the visible ones, whose weights lie in tiles one
  // after the other; `values` come from pack_dims. Neighbours are one call.
  void add_weighted(const std::vector<Visible>& visible, int64_t begin, int64_t end, const float* values,
                    const float* tiles, float* sums, bool started) const {
    const int64_t mr = tile.mr, stride = slots() * mr;
    for (int64_t p = 0; p < dim_panels; ++p) {
      for (int64_t i = begin, next = begin; i < end; i = next) {
        do ++next;
        while (next < end && visible[next].panel == visible[next - 1].panel + 1);
        tile.chain((next - i) * mr, values + p * stride + visible[i].panel * mr * mr, tiles + (i - begin) * tile_size(),
                   sums + p * tile_size(), tile.nr, started || i > begin);
      }
    }
  }

  // Writes the transpose of sums [head_dim][nr], each column times its factor, to rows of x [tokens, query_heads, :].
  void store_queries(const float* sums, const float* factor, int64_t head, const Panel& q, void* x) const {
    const int64_t D = a.head_dim, nr = tile.nr;
    with_dtype(a.dtype, x, [&](auto* to) {
      for (int64_t i = 0; i < q.count; ++i) {
        auto* row = to + ((q.first + i) * a.query_heads + head) * D;
        for (int64_t d = 0; d < D; ++d) store(row + d, sums[d * nr + i] * factor[i]);
      }
    });
  }

  // As many key heads at a time as fit the memory, but enough for all threads.
  int64_t heads_per_wave(int64_t floats_per_key_head, int64_t tasks_per_key_head) const {
    const int64_t fit = kWaveBytes / std::max<int64_t>(1, floats_per_key_head * int64_t{sizeof(float)});
    return std::min(a.key_heads,
                    std::max<int64_t>({1, fit, ceil_div(threads, std::max<int64_t>(1, tasks_per_key_head))}));
  }
};

// ------------------------------------------------------------------------------------------------------------ forward

struct Forward {
  const Work& w;
  void* out;
  const Softmax& softmax;

  struct Scratch {
    explicit Scratch(const Work& w)
        : queries(allocate(w.a.head_dim * w.tile.nr)),
          scores(allocate(kGroup * w.tile_size())),
          sums(allocate(w.dim_panels * w.tile_size())) {}
    Buffer queries, scores, sums;
    std::vector<Visible> visible;
    QueryLanes lanes;
    SoftmaxState state;
  };

  // A panel of queries of all query heads of one key head.
  void panel(int64_t key_head, int64_t index, const float* keys, const float* values, Scratch* s) const {
    const AttentionLayout& layout = w.layout;
    const Panel& q = layout.queries[index];
    layout.find_visible(layout.chunks[layout.chunk_of[index]], q, &s->visible);
    w.fill_lanes(q, &s->lanes);
    for (int64_t h = key_head * w.group; h < (key_head + 1) * w.group; ++h) {
      w.pack_queries(w.a.q, h, q, s->queries.get());
      attend(keys, values, s);
      finish(h, q, s);
    }
  }

  void attend(const float* keys, const float* values, Scratch* s) const {
    const int64_t mr = w.tile.mr, nr = w.tile.nr, D = w.a.head_dim, n = s->visible.size();
    std::fill(s->state.reference, s->state.reference + nr, -std::numeric_limits<float>::max());
    std::fill(s->state.sum, s->state.sum + nr, 0.0f);
    float* x = s->scores.get();
    for (int64_t begin = 0; begin < n; begin += kGroup) {
      const int64_t end = std::min(n, begin + kGroup), count = (end - begin) * mr;
      for (int64_t i = begin; i < end; ++i)
        w.tile.run(D, keys + s->visible[i].panel * mr * D, s->queries.get(), x + (i - begin) * w.tile_size(), nr,
                   false);
      w.rows.scores(x, count, w.rule);
      for (int64_t i = begin; i < end; ++i)
        if (s->visible[i].masked)
          w.rows.mask(x + (i - begin) * w.tile_size(), mr, -kInfinity, w.key_slots(s->visible[i].panel), s->lanes,
                      w.rule.window);
      w.rows.raise(x, count, &s->state, s->sums.get(), begin > 0 ? w.dim_panels * mr : 0);
      w.rows.weights(x, count, &s->state);
      w.add_weighted(s->visible, begin, end, values, x, s->sums.get(), begin > 0);
    }
  }

  void finish(int64_t head, const Panel& q, Scratch* s) const {
    float factor[kMaxQueries];
    for (int64_t i = 0; i < q.count; ++i) {
      const int64_t row = head * w.a.forest.tokens + q.first + i;
      double sum = s->state.sum[i];
      if (w.a.sinks != nullptr) sum += sink_weight(w.a.sinks[head], s->state.reference[i]);
      factor[i] = static_cast<float>(1 / sum);
      softmax.level[row] = s->state.reference[i];
      softmax.share[row] = factor[i];
    }
    w.store_queries(s->sums.get(), factor, head, q, out);
  }
};

// ----------------------------------------------------------------------------------------------------------- backward

struct Backward {
  const Work& w;
  const HeadsView& dout;
  const Softmax& softmax;
  const TreeAttentionGrads& grads;
  // Of one wave of key heads: packed operands of each key head, sums [slots][columns] of each query head.
  Buffer keys, values, key_dims, dk, dv;
  std::vector<double> dsinks;  // [query_heads][chunks]

  bool wants_keys() const { return grads.dq != nullptr || grads.dk != nullptr; }
  bool wants_dots() const { return wants_keys() || grads.dsinks != nullptr; }
  int64_t operand_size() const { return w.slots() * w.a.head_dim; }
  int64_t dims_size() const { return w.slots() * w.dim_panels * w.tile.mr; }
  int64_t sums_size() const { return w.slots() * w.dim_columns * w.tile.nr; }

  struct Scratch {
    Scratch(const Work& w, const Chunk& chunk)
        : q(allocate(w.a.head_dim * w.tile.nr)),
          dout(allocate(w.a.head_dim * w.tile.nr)),
          q_dims(allocate(w.dim_columns * w.tile.nr * w.tile.nr)),
          dout_dims(allocate(w.dim_columns * w.tile.nr * w.tile.nr)),
          p(allocate((chunk.key_end - chunk.key_begin) * w.tile_size())),
          dp(allocate((chunk.key_end - chunk.key_begin) * w.tile_size())),
          slope(w.a.softcap > 0 ? allocate((chunk.key_end - chunk.key_begin) * w.tile_size()) : nullptr),
          dq(allocate(w.dim_panels * w.tile_size())) {}
    Buffer q, dout, q_dims, dout_dims;
    Buffer p, dp, slope;  // of a panel of queries, a tile for each visible panel of keys
    Buffer dq;
    std::vector<Visible> visible;
    QueryLanes lanes;
    alignas(64) float level[kMaxQueries], share[kMaxQueries], delta[kMaxQueries];
  };

  // All queries of one query head in one chunk: dq is done, dk and dv of this head are summed.
  void chunk(int64_t head, int64_t slot_head, int64_t slot_key_head, int64_t index) {
    const AttentionLayout& layout = w.layout;
    const Chunk& chunk = layout.chunks[index];
    const int64_t width = w.dim_columns * w.tile.nr;
    Scratch s(w, chunk);
    float* dk_sums = dk ? dk.get() + slot_head * sums_size() : nullptr;
    float* dv_sums = dv ? dv.get() + slot_head * sums_size() : nullptr;
    for (float* sums : {dk_sums, dv_sums})
      if (sums != nullptr)
        std::fill(sums + chunk.key_begin * w.tile.mr * width, sums + chunk.key_end * w.tile.mr * width, 0.0f);
    double dsink = 0;
    for (int64_t i = chunk.query_begin; i < chunk.query_end; ++i) {
      const Panel& q = layout.queries[i];
      pack_panel(head, q, &s);
      layout.find_visible(chunk, q, &s.visible);
      w.fill_lanes(q, &s.lanes);
      make_probabilities(slot_key_head, dv_sums, &s);
      if (grads.dsinks != nullptr)
        for (int64_t lane = 0; lane < q.count; ++lane)
          dsink -= sink_probability(w.a.sinks[head], s.level[lane], s.share[lane]) * s.delta[lane];
      if (wants_keys()) add_gradients(slot_key_head, dk_sums, &s);
      if (grads.dq == nullptr) continue;
      float factor[kMaxQueries];
      std::fill(factor, factor + w.tile.nr, w.a.scale);
      w.store_queries(s.dq.get(), factor, head, q, grads.dq);
    }
    dsinks[head * layout.chunks.size() + index] = dsink;
  }

  void pack_panel(int64_t head, const Panel& q, Scratch* s) const {
    std::fill(s->delta, s->delta + kMaxQueries, 0.0f);
    std::fill(s->level, s->level + kMaxQueries, 0.0f);
    std::fill(s->share, s->share + kMaxQueries, 0.0f);  // lanes without a query have no probability
    std::copy_n(softmax.level + head * w.a.forest.tokens + q.first, q.count, s->level);
    std::copy_n(softmax.share + head * w.a.forest.tokens + q.first, q.count, s->share);
    w.pack_queries(w.a.q, head, q, s->q.get());
    if (wants_dots()) w.pack_queries(dout, head, q, s->dout.get());
    if (grads.dk != nullptr) w.pack_query_dims(w.a.q, head, q, s->q_dims.get());
    if (grads.dv != nullptr) w.pack_query_dims(dout, head, q, s->dout_dims.get());
  }

  // The probabilities of a panel of queries over all keys, what they add to dv, and delta = sum over keys of p * dp.
  void make_probabilities(int64_t slot, float* dv_sums, Scratch* s) const {
    const int64_t mr = w.tile.mr, nr = w.tile.nr, D = w.a.head_dim, n = s->visible.size(), size = w.tile_size();
    const float* k = keys.get() + slot * operand_size();
    const float* v = values ? values.get() + slot * operand_size() : nullptr;
    for (int64_t begin = 0; begin < n; begin += kGroup) {
      const int64_t end = std::min(n, begin + kGroup), count = (end - begin) * mr;
      float *p = s->p.get() + begin * size, *dp = s->dp.get() + begin * size;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = s->visible[i].panel * mr * D;
        w.tile.run(D, k + at, s->q.get(), p + (i - begin) * size, nr, false);
        if (v != nullptr) w.tile.run(D, v + at, s->dout.get(), dp + (i - begin) * size, nr, false);
      }
      w.rows.probabilities(p, s->slope ? s->slope.get() + begin * size : nullptr, count, w.rule, s->level, s->share);
      for (int64_t i = begin; i < end; ++i) {
        if (!s->visible[i].masked) continue;
        const KeySlots slots = w.key_slots(s->visible[i].panel);
        w.rows.mask(p + (i - begin) * size, mr, 0.0f, slots, s->lanes, w.rule.window);
        if (v != nullptr) w.rows.mask(dp + (i - begin) * size, mr, 0.0f, slots, s->lanes, w.rule.window);
      }
      if (v != nullptr) w.rows.add_dots(p, dp, count, s->delta);
      if (dv_sums != nullptr) add_keys(s->visible, begin, end, p, s->dout_dims.get(), dv_sums);
    }
  }

  // From the probabilities of a panel of queries and delta: its dq, and what it adds to dk.
  void add_gradients(int64_t slot, float* dk_sums, Scratch* s) const {
    const int64_t n = s->visible.size(), size = w.tile_size();
    for (int64_t begin = 0; begin < n; begin += kGroup) {
      const int64_t end = std::min(n, begin + kGroup), count = (end - begin) * w.tile.mr;
      float* ds = s->dp.get() + begin * size;
      w.rows.gradients(s->p.get() + begin * size, ds, s->slope ? s->slope.get() + begin * size : nullptr, count,
                       s->delta);
      if (dk_sums != nullptr) add_keys(s->visible, begin, end, ds, s->q_dims.get(), dk_sums);
      if (grads.dq != nullptr)
        w.add_weighted(s->visible, begin, end, key_dims.get() + slot * dims_size(), ds, s->dq.get(), begin > 0);
    }
  }

  // sums [slots][columns] += weights x: one step for each query of the panel.
  void add_keys(const std::vector<Visible>& visible, int64_t begin, int64_t end, const float* weights, const float* x,
                float* sums) const {
    const int64_t mr = w.tile.mr, nr = w.tile.nr, width = w.dim_columns * nr;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < w.dim_columns; ++c)
        w.tile.chain_rows(nr, weights + (i - begin) * w.tile_size(), x + c * nr * nr,
                          sums + visible[i].panel * mr * width + c * nr, width, true);
  }

  // The sum over the query heads of a key head, in their order.
  void store_keys(const float* sums, int64_t slot_head, int64_t key_head, int64_t panel, float factor, void* to) const {
    const Panel& k = w.layout.keys[panel];
    const int64_t D = w.a.head_dim, width = w.dim_columns * w.tile.nr;
    std::vector<float> total(D);
    with_dtype(w.a.dtype, to, [&](auto* x) {
      for (int64_t i = 0; i < k.count; ++i) {
        const float* row = sums + slot_head * sums_size() + (panel * w.tile.mr + i) * width;
        std::copy_n(row, D, total.data());
        for (int64_t g = 1; g < w.group; ++g)
          for (int64_t d = 0; d < D; ++d) total[d] += row[g * sums_size() + d];
        auto* at = x + ((k.first + i) * w.a.key_heads + key_head) * D;
        for (int64_t d = 0; d < D; ++d) store(at + d, total[d] * factor);
      }
    });
  }

  void run() {
    const AttentionLayout& layout = w.layout;
    const int64_t panels = layout.keys.size(), chunks = layout.chunks.size();
    const int64_t operands = (1 + wants_dots()) * operand_size() + (grads.dq != nullptr) * dims_size();
    const int64_t totals = ((grads.dk != nullptr) + (grads.dv != nullptr)) * sums_size();
    const int64_t wave = w.heads_per_wave(operands + w.group * totals, w.group * chunks);
    dsinks.assign(w.a.query_heads * chunks, 0.0);
    keys = allocate(wave * operand_size());
    if (wants_dots()) values = allocate(wave * operand_size());
    if (grads.dq) key_dims = allocate(wave * dims_size());
    if (grads.dk) dk = allocate(wave * w.group * sums_size());
    if (grads.dv) dv = allocate(wave * w.group * sums_size());
    for (int64_t first = 0; first < w.a.key_heads; first += wave) {
      const int64_t heads = std::min(wave, w.a.key_heads - first);
      parallel_for(heads * panels, w.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t slot = i / panels, panel = i % panels;
          w.pack_tokens(w.a.k, first + slot, panel, keys.get() + slot * operand_size());
          if (values) w.pack_tokens(w.a.v, first + slot, panel, values.get() + slot * operand_size());
          if (key_dims) w.pack_dims(w.a.k, first + slot, panel, key_dims.get() + slot * dims_size());
        }
      });
      parallel_tasks(heads * w.group * chunks, w.threads, [&](int64_t task) {
        const int64_t slot_head = task / chunks;
        chunk(first * w.group + slot_head, slot_head, slot_head / w.group, task % chunks);
      });
      parallel_for(heads * panels, w.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t slot = i / panels, panel = i % panels;
          if (dk) store_keys(dk.get(), slot * w.group, first + slot, panel, w.a.scale, grads.dk);
          if (dv) store_keys(dv.get(), slot * w.group, first + slot, panel, 1.0f, grads.dv);
        }
      });
    }
    if (grads.dsinks == nullptr) return;
    for (int64_t h = 0; h < w.a.query_heads; ++h) {
      double sum = 0;
      for (int64_t c = 0; c < chunks; ++c) sum += dsinks[h * chunks + c];
      grads.dsinks[h] = static_cast<float>(sum);
    }
  }
};

}  // namespace

void tree_attention_fwd(const TreeAttention& a, void* out, const Softmax& softmax) {
  const Work w(a);
  const Forward forward{w, out, softmax};
  const int64_t panels = w.layout.keys.size(), query_panels = w.layout.queries.size();
  const int64_t keys_size = w.slots() * a.head_dim, values_size = w.slots() * w.dim_panels * w.tile.mr;
  const int64_t wave = w.heads_per_wave(keys_size + values_size, query_panels);
  const Buffer keys = allocate(wave * keys_size), values = allocate(wave * values_size);
  for (int64_t first = 0; first < a.key_heads; first += wave) {
    const int64_t heads = std::min(wave, a.key_heads - first);
    parallel_for(heads * panels, w.threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t slot = i / panels, panel = i % panels;
        w.pack_tokens(a.k, first + slot, panel, keys.get() + slot * keys_size);
        w.pack_dims(a.v, first + slot, panel, values.get() + slot * values_size);
      }
    });
    // The last panels first: of a large tree they see the most.
    parallel_tasks(heads * query_panels, w.threads, [&](int64_t task) {
      Forward::Scratch scratch(w);
      const int64_t slot = task / query_panels;
      forward.panel(first + slot, query_panels - 1 - task % query_panels, keys.get() + slot * keys_size,
                    values.get() + slot * values_size, &scratch);
    });
  }
}

void tree_attention_bwd(const TreeAttention& a, const HeadsView& dout, const Softmax& softmax,
                        const TreeAttentionGrads& grads) {
  const Work w(a);
  Backward{w, dout, softmax, grads, {}, {}, {}, {}, {}, {}}.run();
}

}  // namespace himakernels
