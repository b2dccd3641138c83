#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "prefix_cache.h"
#include "python.h"

namespace himakernels {
namespace {

using Integers = Vector<int64_t>;
using Blocks = Vector<int32_t>;

Blocks array_of(const std::vector<int32_t>& blocks) { return Blocks(blocks.size(), blocks.data()); }

// What `run` returns, with the GIL released while it waits for the cache and works.
template <class Run>
auto without_gil(const Run& run) {
  py::gil_scoped_release release;
  return run();
}

py::tuple match(PrefixCache& cache, const std::string& policy, int64_t version, const Integers& tokens) {
  const int64_t* data = vector("token_ids", tokens, tokens.size());
  const auto match = without_gil([&] { return cache.match(policy, version, data, tokens.size()); });
  return py::make_tuple(match.node, match.tokens, array_of(match.blocks));
}

py::tuple insert(PrefixCache& cache, int64_t node, const Integers& tokens, const Integers& blocks) {
  const int64_t* token = vector("token_ids", tokens, tokens.size());
  const int64_t* block = vector("block_ids", blocks, blocks.size());
  const auto done = without_gil([&] { return cache.insert(node, token, tokens.size(), block, blocks.size()); });
  return py::make_tuple(done.node, done.new_tokens, array_of(done.blocks));
}

py::tuple fork(PrefixCache& cache, int64_t node, int64_t n) {
  const auto fork = without_gil([&] { return cache.fork(node, n); });
  return py::make_tuple(array_of(fork.sources), array_of(fork.targets), array_of(fork.tokens));
}

Blocks allocate(PrefixCache& cache, int64_t count) {
  return array_of(without_gil([&] { return cache.allocate(count); }));
}

void release(PrefixCache& cache, const Integers& blocks) {
  const int64_t* data = vector("block_ids", blocks, blocks.size());
  without_gil([&] { cache.release(data, blocks.size()); });
}

int64_t reset(PrefixCache& cache, const std::optional<std::string>& policy) {
  return without_gil([&] { return policy ? cache.reset(*policy) : cache.reset(); });
}

py::tuple stats(const PrefixCache& cache) {
  const auto s = without_gil([&] { return cache.stats(); });
  return py::make_tuple(s.num_blocks, s.free_blocks, s.evictable_blocks, s.nodes, s.tokens, s.locks, s.queried_tokens,
                        s.matched_tokens, s.evicted_blocks);
}

}  // namespace

void bind_prefix_cache(py::module_& m) {
  const py::call_guard<py::gil_scoped_release> no_gil;
  py::register_exception<OutOfBlocksError>(m, "OutOfBlocksError", PyExc_RuntimeError);
  py::class_<PrefixCache>(m, "PrefixCache")
      .def(py::init<int64_t, int64_t>(), py::arg("num_blocks"), py::arg("block_size"))
      .def("match", &match, py::arg("policy"), py::arg("policy_version"), py::arg("token_ids").noconvert())
      .def("insert", &insert, py::arg("node"), py::arg("token_ids").noconvert(), py::arg("block_ids").noconvert())
      .def("lock", &PrefixCache::lock, py::arg("node"), py::arg("count"), no_gil)
      .def("unlock", &PrefixCache::unlock, py::arg("node"), py::arg("count"), no_gil)
      .def("fork", &fork, py::arg("node"), py::arg("n"))
      .def("allocate", &allocate, py::arg("count"))
      .def("release", &release, py::arg("block_ids").noconvert())
      .def("evict", &PrefixCache::evict, py::arg("count"), no_gil)
      .def("reset", &reset, py::arg("policy"))
      .def("stats", &stats)
      .def("check_integrity", &PrefixCache::check_integrity, no_gil);
}

}  // namespace himakernels
