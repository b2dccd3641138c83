#include "group_advantages.h"
#include "python.h"

namespace himakernels {
namespace {

template <class T>
Column<T> column(const py::array& a, int64_t offset_bytes, py::ssize_t axis) {
  const int64_t stride = a.strides(axis);
  return {reinterpret_cast<const T*>(static_cast<const char*>(a.data()) + offset_bytes),
          stride / static_cast<int64_t>(sizeof(T))};
}

Normalize parse_normalize(const std::string& name) {
  if (name == "std") return Normalize::kStd;
  if (name == "mean") return Normalize::kMean;
  if (name == "leave_one_out") return Normalize::kLeaveOneOut;
  if (name == "none") return Normalize::kNone;
  throw py::value_error("normalize: expected one of 'std', 'mean', 'leave_one_out', 'none', got '" + name + "'");
}

template <class Real, class Id>
py::tuple run_group_advantages(const py::array& rewards, const py::array& group_id, const std::vector<double>& weights,
                               int64_t groups, const GroupAdvantagesOptions& options) {
  const int64_t samples = rewards.shape(0);
  std::vector<Column<Real>> columns;
  for (size_t m = 0; m < weights.size(); ++m) {
    const int64_t offset = rewards.ndim() == 1 ? 0 : static_cast<int64_t>(m) * rewards.strides(1);
    columns.push_back(column<Real>(rewards, offset, 0));
  }
  const Column<Id> ids = column<Id>(group_id, 0, 0);
  py::array_t<Real> advantages(samples), mean(groups), variance(groups);
  py::array_t<int64_t> count(groups);
  const GroupAdvantagesOutput<Real> out{advantages.mutable_data(), count.mutable_data(), mean.mutable_data(),
                                        variance.mutable_data()};
  {
    py::gil_scoped_release release;
    himakernels::group_advantages<Real, Id>(columns, weights, ids, samples, groups, options, out);
  }
  return py::make_tuple(advantages, count, mean, variance);
}

template <class Real>
py::tuple group_advantages_as(const py::array& rewards, const py::array& group_id, const std::vector<double>& weights,
                              int64_t groups, const GroupAdvantagesOptions& options) {
  if (holds<int64_t>(group_id)) return run_group_advantages<Real, int64_t>(rewards, group_id, weights, groups, options);
  if (holds<int32_t>(group_id)) return run_group_advantages<Real, int32_t>(rewards, group_id, weights, groups, options);
  bad_type("group_id", "int32 or int64", group_id);
}

py::tuple group_advantages_of(const py::array& rewards, const py::array& group_id, int64_t num_groups,
                              const py::object& weights, const std::string& normalize, double eps,
                              bool normalize_then_sum, bool scale_by_batch_std, int threads) {
  if (rewards.ndim() != 1 && rewards.ndim() != 2) {
    throw py::value_error("rewards: expected 1 or 2 dimensions, got " + std::to_string(rewards.ndim()));
  }
  check_count("num_groups", num_groups, 0);
  check_threads(threads);
  const int64_t num_columns = rewards.ndim() == 1 ? 1 : rewards.shape(1);
  check_shape("group_id", group_id, {rewards.shape(0)});
  std::vector<double> weight(num_columns, 1.0);
  if (!weights.is_none()) {
    if (!py::isinstance<py::array_t<double>>(weights)) {
      throw py::type_error("weights: expected a float64 array or None, got " +
                           std::string(py::str(py::type::of(weights))));
    }
    const py::array array = py::reinterpret_borrow<py::array>(weights);
    check_shape("weights", array, {num_columns});
    const Column<double> w = column<double>(array, 0, 0);
    for (int64_t m = 0; m < num_columns; ++m) weight[m] = w[m];
  }
  GroupAdvantagesOptions options;
  options.normalize = parse_normalize(normalize);
  options.eps = eps;
  options.normalize_then_sum = normalize_then_sum;
  options.scale_by_batch_std = scale_by_batch_std;
  options.threads = threads;
  if (holds<float>(rewards)) return group_advantages_as<float>(rewards, group_id, weight, num_groups, options);
  if (holds<double>(rewards)) return group_advantages_as<double>(rewards, group_id, weight, num_groups, options);
  bad_type("rewards", "float32 or float64", rewards);
}

}  // namespace

void bind_group_advantages(py::module_& m) {
  m.def("group_advantages", &group_advantages_of, py::arg("rewards"), py::arg("group_id"), py::arg("num_groups"),
        py::arg("weights"), py::arg("normalize"), py::arg("eps"), py::arg("normalize_then_sum"),
        py::arg("scale_by_batch_std"), py::arg("threads"), "-> advantages [S], count [n], mean [n], variance [n].");
}

}  // namespace himakernels
