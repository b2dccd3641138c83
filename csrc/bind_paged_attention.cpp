#include <pybind11/stl.h>

#include <optional>

#include "paged_attention.h"
#include "python.h"

namespace himakernels {
namespace {

using Ints = Vector<int32_t>;

void contiguous_rows(const char* name, const py::array& x) {
  const py::ssize_t last = x.ndim() - 1;
  if (x.size() > 0 && x.shape(last) > 1 && x.strides(last) != x.itemsize())
    throw py::value_error(std::string(name) + ": expected a contiguous last dimension");
}

BlocksView blocks(const char* name, const py::array& x, const std::string& dtype, const py::array& like) {
  parse_dtype(name, x, dtype);
  check_shape(name, x, {like.shape(0), like.shape(1), like.shape(2), like.shape(3)});
  contiguous_rows(name, x);
  const py::ssize_t size = x.itemsize();
  return {x.data(), x.strides(0) / size, x.strides(1) / size, x.strides(2) / size};
}

void run(const py::array& q, const py::array& keys, const py::array& values, const std::string& dtype,
         const Ints& block_table, const Ints& cu_seqlens, const Ints& seq_lens,
         const std::optional<Vector<float>>& sinks, double scale, int32_t window, double softcap, const py::array& out,
         int threads) {
  const DType type = parse_dtype("q", q, dtype);
  if (q.ndim() != 3) throw py::value_error("q: expected 3 dimensions, got " + std::to_string(q.ndim()));
  if (keys.ndim() != 4) throw py::value_error("keys: expected 4 dimensions, got " + std::to_string(keys.ndim()));
  if (block_table.ndim() != 2) throw py::value_error("block_table: expected 2 dimensions");
  const int64_t tokens = q.shape(0), query_heads = q.shape(1), head_dim = q.shape(2), sequences = block_table.shape(0);
  const int64_t key_heads = keys.shape(2);
  if (key_heads < 1 || query_heads % key_heads != 0)
    throw py::value_error("keys: expected a number of heads that divides " + std::to_string(query_heads) + ", got " +
                          std::to_string(key_heads));
  if (keys.shape(3) != head_dim || head_dim < 1 || keys.shape(1) < 1)
    throw py::value_error("keys: expected shape [blocks, block_size, heads, " + std::to_string(head_dim) + "]");
  check_count("keys: blocks", keys.shape(0), 0);
  check_count("keys: block_size", keys.shape(1), 1);
  check_count("block_table: blocks of a sequence", block_table.shape(1), 0);
  check_count("window", window, 0);
  check_threads(threads);
  contiguous_rows("q", q);
  const int32_t* bounds = vector("cu_seqlens", cu_seqlens, sequences + 1);
  if (bounds[0] != 0 || bounds[sequences] != tokens)
    throw py::value_error("cu_seqlens: expected 0 first and " + std::to_string(tokens) + " last, got " +
                          std::to_string(bounds[0]) + " and " + std::to_string(bounds[sequences]));
  check_shape("out", out, {tokens, query_heads, head_dim});
  parse_dtype("out", out, dtype);
  check_writeable("out", out);
  if (!(out.flags() & py::array::c_style)) throw py::value_error("out: expected a contiguous array");
  const py::ssize_t size = q.itemsize();
  const PagedAttention a{{q.data(), q.strides(0) / size, q.strides(1) / size},
                         blocks("keys", keys, dtype, keys),
                         blocks("values", values, dtype, keys),
                         type,
                         sequences,
                         query_heads,
                         key_heads,
                         head_dim,
                         keys.shape(0),
                         keys.shape(1),
                         block_table.shape(1),
                         block_table.data(),
                         bounds,
                         vector("seq_lens", seq_lens, sequences),
                         sinks ? vector("sinks", *sinks, query_heads) : nullptr,
                         static_cast<float>(scale),
                         static_cast<float>(softcap),
                         window,
                         threads};
  void* to = const_cast<void*>(out.data());
  py::gil_scoped_release release;
  check_paged(a);
  paged_attention(a, to);
}

}  // namespace

void bind_paged_attention(py::module_& m) {
  m.def("paged_attention", &run, py::arg("q"), py::arg("keys"), py::arg("values"), py::arg("dtype"),
        py::arg("block_table").noconvert(), py::arg("cu_seqlens").noconvert(), py::arg("seq_lens").noconvert(),
        py::arg("sinks").noconvert(), py::arg("scale"), py::arg("window"), py::arg("softcap"), py::arg("out"),
        py::arg("threads"));
}

}  // namespace himakernels
