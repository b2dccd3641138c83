// What the seam between Python and C++ is made of: checks of arrays. Included by bind_*.cpp and bindings.cpp alone.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "half.h"
#include "pack.h"

namespace py = pybind11;

namespace himakernels {

// One function a file bind_<concern>.cpp: adds that concern's functions to the module.
void bind_group_advantages(py::module_& m);
void bind_gemm(py::module_& m);
void bind_logits(py::module_& m);
void bind_paged_attention(py::module_& m);
void bind_prefix_cache(py::module_& m);
void bind_token_trie(py::module_& m);
void bind_tree_attention(py::module_& m);

[[noreturn]] inline void bad_type(const char* name, const char* expected, const py::array& got) {
  throw py::type_error(std::string(name) + ": expected dtype " + expected + ", got " +
                       std::string(py::str(got.dtype())));
}

template <class T>
bool holds(const py::array& a) {
  return py::isinstance<py::array_t<T>>(a);
}

inline void check_shape(const char* name, const py::array& a, const std::vector<int64_t>& expected) {
  bool fits = a.ndim() == static_cast<int64_t>(expected.size());
  for (size_t d = 0; fits && d < expected.size(); ++d) fits = a.shape(d) == expected[d];
  if (fits) return;
  std::string want, got;
  for (int64_t n : expected) want += (want.empty() ? "" : ", ") + std::to_string(n);
  for (py::ssize_t d = 0; d < a.ndim(); ++d) got += (d ? ", " : "") + std::to_string(a.shape(d));
  throw py::value_error(std::string(name) + ": expected shape [" + want + "], got [" + got + "]");
}

// numpy has no bf16, so half-precision tensors come as int16 views with the name of what the bits mean.
inline DType parse_dtype(const char* name, const py::array& array, const std::string& dtype) {
  const bool half = dtype == "bfloat16" || dtype == "float16";
  if (!half && dtype != "float32")
    throw py::type_error(std::string(name) + ": expected float32, bfloat16 or float16, got " + dtype);
  const py::dtype want = half ? py::dtype::of<int16_t>() : py::dtype::of<float>();
  if (!array.dtype().is(want))
    throw py::type_error(std::string(name) + ": expected an array of " + std::string(py::str(want)) + ", got " +
                         std::string(py::str(array.dtype())));
  return dtype == "bfloat16" ? DType::kBFloat16 : dtype == "float16" ? DType::kFloat16 : DType::kFloat32;
}

inline void check_writeable(const char* name, const py::array& array) {
  if (!array.writeable()) throw py::value_error(std::string(name) + ": expected a writeable array");
}

// The most of anything that is counted here: sums and products of two such numbers fit 64 bits.
constexpr int64_t kMostCount = std::numeric_limits<int32_t>::max();

inline int64_t check_count(const char* name, int64_t value, int64_t least, int64_t most = kMostCount) {
  if (value < least)
    throw py::value_error(std::string(name) + ": expected a number >= " + std::to_string(least) + ", got " +
                          std::to_string(value));
  if (value > most)
    throw py::value_error(std::string(name) + ": expected a number <= " + std::to_string(most) + ", got " +
                          std::to_string(value));
  return value;
}

inline void check_threads(int threads) { check_count("threads", threads, 1, 1 << 16); }

template <class S>
using Vector = py::array_t<S, py::array::c_style>;

template <class S>
const S* vector(const char* name, const Vector<S>& array, py::ssize_t size) {
  if (array.ndim() != 1 || array.shape(0) != size)
    throw py::value_error(std::string(name) + ": expected shape [" + std::to_string(size) + "]");
  return array.data();
}

}  // namespace himakernels
