#include "token_trie.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuts.h"

namespace himakernels {
namespace {

using std::to_string;

constexpr int64_t kNone = -1;

[[noreturn]] void bad(const std::string& message) { throw std::invalid_argument(message); }

// (a, b) -> a number >= 0, by open addressing.
class PairMap {
 public:
  explicit PairMap(int64_t expected) {
    size_t size = 16;
    while (size < 2 * static_cast<size_t>(expected)) size *= 2;
    slots_.resize(size);
  }

  // The entry of (a, b). A new one is kNone, and the caller sets it before the next call.
  int64_t& at(int64_t a, int64_t b) {
    if (2 * used_ >= slots_.size()) grow();
    Slot& slot = find(a, b);
    if (slot.value == kNone) {
      slot.a = a;
      slot.b = b;
      ++used_;
    }
    return slot.value;
  }

 private:
  struct Slot {
    int64_t a = 0, b = 0, value = kNone;
  };

  Slot& find(int64_t a, int64_t b) {
    uint64_t hash = static_cast<uint64_t>(a) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(b);
    hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
    hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
    const size_t mask = slots_.size() - 1;
    size_t i = (hash ^ (hash >> 32)) & mask;
    while (slots_[i].value != kNone && (slots_[i].a != a || slots_[i].b != b)) i = (i + 1) & mask;
    return slots_[i];
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.value != kNone) find(slot.a, slot.b) = slot;
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

// A path-compressed trie: a node stands for the tokens at depths [begin, end) of the sequence `example`, and of every
// other sequence that passes through it. Children and sequences are linked in order of first appearance.
class TokenTrie {
 public:
  explicit TokenTrie(const Sequences& sequences)
      : s_(sequences), nodes_(sequences.policies), next_(sequences.count, kNone), children_(sequences.count) {
    for (int64_t p = 0; p < s_.policies; ++p) nodes_[p].key = p;  // the roots, which hold no token
    keys_ = s_.policies;
    for (int64_t n = 0; n < s_.count; ++n) insert(n);
  }

  // The sequences in depth-first order, and what each shares with the one before.
  void walk(std::vector<int64_t>& sequence, std::vector<int64_t>& shared) const {
    std::vector<int64_t> stack;
    for (int64_t p = 0; p < s_.policies; ++p) {
      int64_t common = 0;  // of the last sequence and the path to the node
      stack.push_back(p);
      while (!stack.empty()) {
        const Node& node = nodes_[stack.back()];
        stack.pop_back();
        common = std::min(common, node.begin);
        for (int64_t n = node.first_sequence; n != kNone; n = next_[n]) {
          sequence.push_back(n);
          shared.push_back(common);
          common = node.end;
        }
        if (node.sibling != kNone) stack.push_back(node.sibling);
        if (node.first_child != kNone) stack.push_back(node.first_child);
      }
    }
  }

 private:
  struct Node {
    int64_t key = 0;  // under which children_ knows its children
    int64_t example = kNone, begin = 0, end = 0;
    int64_t first_child = kNone, last_child = kNone, sibling = kNone;
    int64_t first_sequence = kNone, last_sequence = kNone;  // that end here
  };

  void insert(int64_t n) {
    const int64_t* tokens = s_.tokens + s_.offsets[n];
    const int64_t length = s_.length(n);
    int64_t at = s_.policy_id[n];
    for (int64_t depth = 0; depth < length;) {
      int64_t& child = children_.at(nodes_[at].key, tokens[depth]);
      if (child == kNone) {
        child = append_child(at, n, depth, length);
        at = child;
        break;
      }
      at = child;
      const int64_t* edge = s_.tokens + s_.offsets[nodes_[at].example];
      const int64_t stop = std::min(nodes_[at].end, length);
      do ++depth;
      while (depth < stop && tokens[depth] == edge[depth]);
      if (depth < nodes_[at].end) split(at, depth);
    }
    Node& node = nodes_[at];
    (node.first_sequence == kNone ? node.first_sequence : next_[node.last_sequence]) = n;
    node.last_sequence = n;
  }

  int64_t append_child(int64_t parent, int64_t example, int64_t begin, int64_t end) {
    const int64_t index = static_cast<int64_t>(nodes_.size());
    Node child;
    child.key = keys_++;
    child.example = example;
    child.begin = begin;
    child.end = end;
    nodes_.push_back(child);
    Node& node = nodes_[parent];
    (node.first_child == kNone ? node.first_child : nodes_[node.last_child].sibling) = index;
    node.last_child = index;
    return index;
  }

  // The node keeps the depths before `depth`, and its place among its siblings; a new child takes the rest. The rest
  // keeps the key, so that its own children need no other entries.
  void split(int64_t index, int64_t depth) {
    Node rest = nodes_[index];
    rest.begin = depth;
    rest.sibling = kNone;
    const int64_t child = static_cast<int64_t>(nodes_.size());
    nodes_.push_back(rest);
    Node& node = nodes_[index];
    node.key = keys_++;
    node.end = depth;
    node.first_child = node.last_child = child;
    node.first_sequence = node.last_sequence = kNone;
    children_.at(node.key, s_.tokens[s_.offsets[node.example] + depth]) = child;
  }

  const Sequences& s_;
  std::vector<Node> nodes_;
  std::vector<int64_t> next_;  // [count] the next sequence that ends at the same node
  PairMap children_;           // (key of a node, token) -> child
  int64_t keys_ = 0;
};

std::string below(int64_t limit) { return limit < 0 ? ">= 0" : "in [0, " + to_string(limit) + ")"; }

std::string at(const char* name, int64_t n) { return std::string(name) + "[" + to_string(n) + "]: expected "; }

std::string got(int64_t value, int64_t index) { return ", got " + to_string(value) + " at index " + to_string(index); }

void check_input(const Sequences& s, int64_t vocab_size, int64_t num_samples, int64_t token_budget) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const uint64_t ids = vocab_size < 0 ? kMax : vocab_size, samples = num_samples < 0 ? kMax : num_samples;
  int64_t longest = 0;
  for (int64_t n = 0; n < s.count; ++n) {
    if (s.length(n) < 1) bad(at("sequences", n) + "at least one token, got none");
    if (s.length(n) > s.length(longest)) longest = n;
    if (s.policy_id[n] < 0 || s.policy_id[n] >= s.policies)
      bad("policy_id: expected values " + below(s.policies) + got(s.policy_id[n], n));
    const int64_t begin = s.offsets[n], end = s.offsets[n + 1];
    for (int64_t i = begin; i < end; ++i)
      if (static_cast<uint64_t>(s.tokens[i]) >= ids)
        bad(at("sequences", n) + "token ids " + below(vocab_size) + got(s.tokens[i], i - begin));
    if (s.sample_id == nullptr) continue;
    for (int64_t i = begin; i < end; ++i)
      if (s.sample_id[i] != kNone && static_cast<uint64_t>(s.sample_id[i]) >= samples)
        bad(at("sample_id", n) + "-1 or numbers " + below(num_samples) + got(s.sample_id[i], i - begin));
    if (s.sample_id[begin] != kNone)
      bad(at("sequences", n) + "an untrained first token (no token predicts it), got one trained by sample " +
          to_string(s.sample_id[begin]));
  }
  if (s.count > 0 && token_budget >= 0 && s.length(longest) > token_budget)
    bad("token_budget: expected at least " + to_string(s.length(longest)) + ", the length of sequences[" +
        to_string(longest) + "], the longest, got " + to_string(token_budget) + ", " +
        to_string(s.length(longest) - token_budget) + " too few");
}

// Which units each sample has rows in.
class SampleSpans {
 public:
  struct Span {
    int64_t sample;
    int64_t first, last;  // units
    bool several;         // units name it
  };

  Span& of(int64_t sample, int64_t unit) {
    int64_t& index = index_.at(sample, 0);
    if (index == kNone) {
      index = static_cast<int64_t>(spans.size());
      spans.push_back({sample, unit, unit, false});
    }
    return spans[index];
  }

  std::vector<Span> spans;

 private:
  PairMap index_{0};
};

// Calls visit(span of its sample, position in the sequence) for each trained token of a unit, in order.
template <class Visit>
void for_each_trained(const Sequences& s, int64_t n, int64_t unit, SampleSpans& samples, const Visit& visit) {
  const int64_t* sample_id = s.sample_id + s.offsets[n];
  SampleSpans::Span* span = nullptr;
  for (int64_t d = 0; d < s.length(n); ++d) {
    if (sample_id[d] == kNone) continue;
    if (span == nullptr || span->sample != sample_id[d]) span = &samples.of(sample_id[d], unit);
    visit(*span, d);
  }
}

// Fills plan.rows and plan.again. A sample has one row for a token of the trie, however many of its sequences train it:
// the row of the first unit.
SampleSpans count_rows(const Sequences& s, PackingPlan& plan) {
  SampleSpans samples;
  plan.rows.assign(s.count, 0);
  if (s.sample_id == nullptr) return samples;
  bool several = false;
  for (int64_t unit = 0; unit < s.count; ++unit) {
    for_each_trained(s, plan.sequence[unit], unit, samples, [&](SampleSpans::Span& span, int64_t) {
      span.several |= span.last != unit;
      several |= span.several;
      span.last = unit;
      ++plan.rows[unit];
    });
  }
  if (!several) return samples;

  for (SampleSpans::Span& span : samples.spans)
    if (span.several) span.first = kNone;
  plan.again.assign(s.offsets[s.count], 0);
  PairMap seen(0);            // (token of the trie, sample)
  std::vector<int64_t> path;  // at each depth, the number of the trie's token there
  int64_t tokens = 0;
  for (int64_t unit = 0; unit < s.count; ++unit) {
    const int64_t n = plan.sequence[unit];
    path.resize(plan.shared[unit]);
    while (static_cast<int64_t>(path.size()) < s.length(n)) path.push_back(tokens++);
    for_each_trained(s, n, unit, samples, [&](SampleSpans::Span& span, int64_t d) {
      if (!span.several) return;
      int64_t& entry = seen.at(path[d], span.sample);
      if (entry == kNone) {
        entry = unit;
        if (span.first == kNone) span.first = unit;
        span.last = unit;
      } else {
        plan.again[s.offsets[n] + d] = 1;
        --plan.rows[unit];
      }
    });
  }
  return samples;
}

// What the cuts of the plan's units cost.
Cuts cuts_of(const Sequences& s, const PackingPlan& plan, const SampleSpans& samples) {
  std::vector<int64_t> end(s.count + 1, 0), crossed(s.count + 1, 0);
  for (int64_t i = 0; i < s.count; ++i) end[i + 1] = end[i] + s.length(plan.sequence[i]) - plan.shared[i];
  for (const SampleSpans::Span& span : samples.spans) {
    ++crossed[span.first + 1];
    --crossed[span.last + 1];
  }
  for (int64_t i = 0; i < s.count; ++i) crossed[i + 1] += crossed[i];
  return Cuts(plan.shared, std::move(end), std::move(crossed));
}

}  // namespace

PackingPlan plan_packing(const Sequences& s, int64_t vocab_size, int64_t num_samples, int64_t token_budget) {
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();  // what subtree_end can count
  check_input(s, vocab_size, num_samples, token_budget);
  PackingPlan plan;
  plan.sequence.reserve(s.count);
  plan.shared.reserve(s.count);
  TokenTrie(s).walk(plan.sequence, plan.shared);
  const SampleSpans samples = count_rows(s, plan);
  Cuts cuts = cuts_of(s, plan, samples);
  plan.distinct = s.count > 0 ? cuts.size(0, s.count) : 0;
  if (token_budget < 0 && plan.distinct > kMaxTokens)
    bad("token_budget: expected a number for " + to_string(plan.distinct) + " tokens, at most " +
        to_string(kMaxTokens) + " of which fit one micro-batch, got None");
  plan.begin = {0, s.count};
  if (s.count > 0 && token_budget >= 0) plan.begin = cuts.within(std::min(token_budget, kMaxTokens));
  for (int64_t b = 0; b < plan.micro_batches(); ++b) {
    const int64_t i = plan.begin[b], j = plan.begin[b + 1];
    plan.tokens_of.push_back(i < j ? cuts.size(i, j) : 0);
    plan.rows_of.push_back(std::accumulate(plan.rows.begin() + i, plan.rows.begin() + j, int64_t{0}));
  }
  const auto batch = [&](int64_t unit) { return std::upper_bound(plan.begin.begin(), plan.begin.end(), unit); };
  for (const SampleSpans::Span& span : samples.spans)
    if (batch(span.first) != batch(span.last)) plan.split_samples.push_back(span.sample);
  std::sort(plan.split_samples.begin(), plan.split_samples.end());
  return plan;
}

void fill_packed(const Sequences& s, const PackingPlan& plan, int64_t micro_batch, const PackedArrays& out) {
  std::vector<int32_t> path;  // the packed position at each depth
  int32_t tokens = 0;
  int64_t rows = 0;
  std::fill(out.segments, out.segments + s.policies + 1, 0);
  const int64_t first = plan.begin[micro_batch];
  for (int64_t unit = first; unit < plan.begin[micro_batch + 1]; ++unit) {
    const int64_t n = plan.sequence[unit], offset = s.offsets[n], length = s.length(n);
    const int64_t shared = unit == first ? 0 : plan.shared[unit];
    for (size_t d = shared; d < path.size(); ++d) out.subtree_end[path[d]] = tokens;
    path.resize(length);
    std::copy(s.tokens + offset + shared, s.tokens + offset + length, out.token_ids + tokens);
    for (int64_t d = shared; d < length; ++d, ++tokens) {
      path[d] = tokens;
      out.position_ids[tokens] = static_cast<int32_t>(d);
    }
    out.segments[s.policy_id[n] + 1] = tokens;
    out.sequence_id[unit - first] = n;
    out.leaf[unit - first] = path[length - 1];
    if (plan.rows[unit] == 0) continue;
    for (int64_t i = offset + 1; i < offset + length; ++i) {
      if (s.sample_id[i] == kNone || (!plan.again.empty() && plan.again[i])) continue;
      out.rows[rows] = path[i - offset - 1];
      out.labels[rows] = s.tokens[i];
      out.sample_id[rows] = s.sample_id[i];
      out.source[rows] = i;
      ++rows;
    }
  }
  for (int32_t position : path) out.subtree_end[position] = tokens;
  for (int64_t p = 0; p < s.policies; ++p) out.segments[p + 1] = std::max(out.segments[p], out.segments[p + 1]);
}

void check_subtree_end(const int32_t* subtree_end, int64_t tokens) {
  std::vector<int64_t> open;  // ends of the subtrees around k
  for (int64_t k = 0; k < tokens; ++k) {
    while (!open.empty() && open.back() <= k) open.pop_back();
    const int64_t end = open.empty() ? tokens : open.back();
    if (subtree_end[k] <= k || subtree_end[k] > end)
      bad("subtree_end: expected nested ranges, at index " + to_string(k) + " a value in [" + to_string(k + 1) + ", " +
          to_string(end) + "], got " + to_string(subtree_end[k]));
    open.push_back(subtree_end[k]);
  }
}

}  // namespace himakernels
