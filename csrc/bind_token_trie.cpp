#include "python.h"
#include "token_trie.h"

namespace himakernels {
namespace {

using Ids = Vector<int64_t>;

py::tuple token_trie_of(const Ids& tokens, const py::object& sample_id, const Ids& offsets, const Ids& policy_id,
                        int64_t num_policies, int64_t vocab_size, int64_t num_samples, int64_t token_budget) {
  const int64_t count = policy_id.size();
  check_count("num_policies", num_policies, 0);
  const int64_t* policy = vector("policy_id", policy_id, count);
  const int64_t* offset = vector("offsets", offsets, count + 1);
  for (int64_t n = 0; n < count; ++n)
    if (offset[n] > offset[n + 1]) throw py::value_error("offsets: expected values that ascend");
  if (offset[0] != 0) throw py::value_error("offsets: expected 0 first, got " + std::to_string(offset[0]));
  Sequences sequences{vector("tokens", tokens, offset[count]), nullptr, offset, policy, count, num_policies};
  Ids samples;
  if (!sample_id.is_none()) {
    if (!py::isinstance<Ids>(sample_id)) throw py::type_error("sample_id: expected a contiguous int64 array or None");
    samples = py::reinterpret_borrow<Ids>(sample_id);
    sequences.sample_id = vector("sample_id", samples, offset[count]);
  }
  PackingPlan plan;
  {
    py::gil_scoped_release release;
    plan = plan_packing(sequences, vocab_size, num_samples, token_budget);
  }
  py::list batches;
  for (int64_t b = 0; b < plan.micro_batches(); ++b) {
    const int64_t T = plan.tokens_of[b], R = plan.rows_of[b], N = plan.begin[b + 1] - plan.begin[b];
    Vector<int64_t> token_ids(T), rows(R), labels(R), sample(R), source(R), sequence_id(N), leaf(N);
    Vector<int32_t> position_ids(T), subtree_end(T), segments(num_policies + 1);
    const PackedArrays out{token_ids.mutable_data(), position_ids.mutable_data(), subtree_end.mutable_data(),
                           rows.mutable_data(),      labels.mutable_data(),       sample.mutable_data(),
                           source.mutable_data(),    segments.mutable_data(),     sequence_id.mutable_data(),
                           leaf.mutable_data()};
    {
      py::gil_scoped_release release;
      fill_packed(sequences, plan, b, out);
    }
    batches.append(py::make_tuple(token_ids, position_ids, subtree_end, rows, labels, sample, source, segments,
                                  sequence_id, leaf));
  }
  py::list split;
  for (int64_t sample : plan.split_samples) split.append(sample);
  return py::make_tuple(batches, plan.distinct, split);
}

void check_subtree_end_of(const Vector<int32_t>& subtree_end) {
  const int32_t* data = vector("subtree_end", subtree_end, subtree_end.size());
  py::gil_scoped_release release;
  himakernels::check_subtree_end(data, subtree_end.size());
}

}  // namespace

void bind_token_trie(py::module_& m) {
  m.def("token_trie", &token_trie_of, py::arg("tokens").noconvert(), py::arg("sample_id"),
        py::arg("offsets").noconvert(), py::arg("policy_id").noconvert(), py::arg("num_policies"),
        py::arg("vocab_size"), py::arg("num_samples"), py::arg("token_budget"),
        "-> micro-batches, distinct tokens, split samples.");
  m.def("check_subtree_end", &check_subtree_end_of, py::arg("subtree_end").noconvert());
}

}  // namespace himakernels
