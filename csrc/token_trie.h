// Token sequences -> a packed forest that holds each distinct (policy, prefix, token) once, cut into micro-batches.
//
// Everything follows from two arrays: the sequences in depth-first order of their trie, and how many leading tokens
// each has in common with the one before it. A path-compressed trie gives both; all work is O(tokens) beside O(N log
// budget) for the cuts.
#pragma once

#include <cstdint>
#include <vector>

namespace himakernels {

// What the caller has: sequence n is tokens[offsets[n]] to tokens[offsets[n + 1]].
struct Sequences {
  const int64_t* tokens;     // [offsets[count]]
  const int64_t* sample_id;  // [offsets[count]], -1 where not trained; null where nothing is
  const int64_t* offsets;    // [count + 1]
  const int64_t* policy_id;  // [count], in [0, policies)
  int64_t count, policies;

  int64_t length(int64_t n) const { return offsets[n + 1] - offsets[n]; }
};

// What is packed where. A unit is a sequence, numbered in depth-first order.
struct PackingPlan {
  std::vector<int64_t> sequence;       // [count] the sequence of a unit
  std::vector<int64_t> shared;         // [count] leading tokens that it shares with the unit before
  std::vector<int64_t> rows;           // [count] its loss rows
  std::vector<uint8_t> again;          // [tokens], or empty for all 0: 1 where the sample has this token's row already
  std::vector<int64_t> begin;          // [micro-batches + 1] units
  std::vector<int64_t> tokens_of;      // [micro-batches]
  std::vector<int64_t> rows_of;        // [micro-batches]
  std::vector<int64_t> split_samples;  // samples with rows in several micro-batches, ascending
  int64_t distinct = 0;                // tokens of the whole forest, before it is cut

  int64_t micro_batches() const { return static_cast<int64_t>(begin.size()) - 1; }
};

// Limits: token ids below vocab_size, sample numbers below num_samples, micro-batches of at most token_budget tokens; a
// negative number stands for no limit. No sequence may be empty or longer than the budget, and no first token trained.
// Throws std::invalid_argument.
PackingPlan plan_packing(const Sequences& sequences, int64_t vocab_size, int64_t num_samples, int64_t token_budget);

// Where one micro-batch of T tokens, R rows and n sequences goes; positions count from its own start.
struct PackedArrays {
  int64_t* token_ids;     // [T]
  int32_t* position_ids;  // [T] depth
  int32_t* subtree_end;   // [T] exclusive
  int64_t* rows;          // [R] position of the token that predicts
  int64_t* labels;        // [R]
  int64_t* sample_id;     // [R]
  int64_t* source;        // [R] index into Sequences::tokens
  int32_t* segments;      // [policies + 1]
  int64_t* sequence_id;   // [n]
  int64_t* leaf;          // [n] position of the sequence's last token
};

void fill_packed(const Sequences& sequences, const PackingPlan& plan, int64_t micro_batch, const PackedArrays& out);

// Throws std::invalid_argument unless the ranges [k, subtree_end[k]) are those of a forest in depth-first order.
void check_subtree_end(const int32_t* subtree_end, int64_t tokens);

}  // namespace himakernels
