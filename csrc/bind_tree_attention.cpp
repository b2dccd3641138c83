#include <pybind11/stl.h>

#include <optional>

#include "python.h"
#include "tree_attention.h"

namespace himakernels {
namespace {

template <class S>
using Optional = std::optional<Vector<S>>;

// x [tokens, heads, head_dim] of `dtype` with contiguous head_dim.
HeadsView heads(const char* name, const py::array& x, const std::string& dtype, int64_t tokens, int64_t count,
                int64_t head_dim) {
  parse_dtype(name, x, dtype);
  check_shape(name, x, {tokens, count, head_dim});
  const py::ssize_t size = x.itemsize();
  if (x.strides(2) != size && x.size() > 0 && head_dim > 1)
    throw py::value_error(std::string(name) + ": expected a contiguous last dimension");
  return {x.data(), x.strides(0) / size, x.strides(1) / size};
}

// The same to be written: contiguous altogether.
void* output(const char* name, const py::array& x, const std::string& dtype, const py::array& like) {
  heads(name, x, dtype, like.shape(0), like.shape(1), like.shape(2));
  if (!(x.flags() & py::array::c_style)) throw py::value_error(std::string(name) + ": expected a contiguous array");
  check_writeable(name, x);
  return const_cast<void*>(x.data());
}

template <class S>
const S* optional_vector(const char* name, const Optional<S>& array, py::ssize_t size) {
  return array ? vector(name, *array, size) : nullptr;
}

TreeAttention problem(const py::array& q, const py::array& k, const py::array& v, const std::string& dtype,
                      const Vector<int32_t>& subtree_end, const Optional<int32_t>& position_ids,
                      const Optional<float>& sinks, double scale, int32_t window, double softcap, int threads) {
  if (q.ndim() != 3) throw py::value_error("q: expected 3 dimensions, got " + std::to_string(q.ndim()));
  if (k.ndim() != 3) throw py::value_error("k: expected 3 dimensions, got " + std::to_string(k.ndim()));
  const int64_t tokens = q.shape(0), query_heads = q.shape(1), key_heads = k.shape(1), head_dim = q.shape(2);
  if (key_heads < 1 || query_heads % key_heads != 0)
    throw py::value_error("k: expected a number of heads that divides " + std::to_string(query_heads) + ", got " +
                          std::to_string(key_heads));
  if (head_dim < 1) throw py::value_error("q: expected a head dimension >= 1, got 0");
  check_count("q: tokens", tokens, 0);
  check_count("window", window, 0);
  if (window > 0 && !position_ids) throw py::value_error("position_ids: expected an array with a window, got None");
  check_threads(threads);
  const Forest forest{vector("subtree_end", subtree_end, tokens), optional_vector("position_ids", position_ids, tokens),
                      tokens, window};
  return {forest,
          heads("q", q, dtype, tokens, query_heads, head_dim),
          heads("k", k, dtype, tokens, key_heads, head_dim),
          heads("v", v, dtype, tokens, key_heads, head_dim),
          parse_dtype("q", q, dtype),
          query_heads,
          key_heads,
          head_dim,
          optional_vector("sinks", sinks, query_heads),
          static_cast<float>(scale),
          static_cast<float>(softcap),
          threads};
}

// softmax [2, query_heads, tokens]: levels, shares.
Softmax softmax_of(Vector<float>& softmax, const TreeAttention& a) {
  check_shape("softmax", softmax, {2, a.query_heads, a.forest.tokens});
  float* data = softmax.mutable_data();
  return {data, data + a.query_heads * a.forest.tokens};
}

void forward(const py::array& q, const py::array& k, const py::array& v, const std::string& dtype,
             const Vector<int32_t>& subtree_end, const Optional<int32_t>& position_ids, const Optional<float>& sinks,
             double scale, int32_t window, double softcap, const py::array& out, Vector<float>& softmax, int threads) {
  const TreeAttention a = problem(q, k, v, dtype, subtree_end, position_ids, sinks, scale, window, softcap, threads);
  void* to = output("out", out, dtype, q);
  const Softmax to_softmax = softmax_of(softmax, a);
  py::gil_scoped_release release;
  tree_attention_fwd(a, to, to_softmax);
}

void backward(const py::array& dout, const py::array& q, const py::array& k, const py::array& v, Vector<float>& softmax,
              const std::string& dtype, const Vector<int32_t>& subtree_end, const Optional<int32_t>& position_ids,
              const Optional<float>& sinks, double scale, int32_t window, double softcap,
              const std::optional<py::array>& dq, const std::optional<py::array>& dk,
              const std::optional<py::array>& dv, std::optional<Vector<float>>& dsinks, int threads) {
  const TreeAttention a = problem(q, k, v, dtype, subtree_end, position_ids, sinks, scale, window, softcap, threads);
  const HeadsView from = heads("dout", dout, dtype, a.forest.tokens, a.query_heads, a.head_dim);
  const Softmax from_softmax = softmax_of(softmax, a);
  if (dsinks && !sinks) throw py::value_error("dsinks: expected None without sinks");
  optional_vector("dsinks", dsinks, a.query_heads);
  const TreeAttentionGrads grads{dq ? output("dq", *dq, dtype, q) : nullptr, dk ? output("dk", *dk, dtype, k) : nullptr,
                                 dv ? output("dv", *dv, dtype, v) : nullptr, dsinks ? dsinks->mutable_data() : nullptr};
  py::gil_scoped_release release;
  tree_attention_bwd(a, from, from_softmax, grads);
}

}  // namespace

void bind_tree_attention(py::module_& m) {
  m.def("tree_attention_fwd", &forward, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("dtype"),
        py::arg("subtree_end").noconvert(), py::arg("position_ids").noconvert(), py::arg("sinks").noconvert(),
        py::arg("scale"), py::arg("window"), py::arg("softcap"), py::arg("out"), py::arg("softmax").noconvert(),
        py::arg("threads"));
  m.def("tree_attention_bwd", &backward, py::arg("dout"), py::arg("q"), py::arg("k"), py::arg("v"),
        py::arg("softmax").noconvert(), py::arg("dtype"), py::arg("subtree_end").noconvert(),
        py::arg("position_ids").noconvert(), py::arg("sinks").noconvert(), py::arg("scale"), py::arg("window"),
        py::arg("softcap"), py::arg("dq"), py::arg("dk"), py::arg("dv"), py::arg("dsinks").noconvert(),
        py::arg("threads"));
}

}  // namespace himakernels
