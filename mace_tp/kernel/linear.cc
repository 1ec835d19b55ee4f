// Linear maps of channels, irrep by irrep, with one matrix for all nodes or one for each element; and their derivatives (linear.py).
//
// The rows of features, [components, nodes, channels], that have the same matrix are multiplied together, some rows and columns at a time
// whose sums stay in registers. Every number is summed by one task in one order.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "aligned.h"
#include "ffi.h"
#include "parallel.h"
#include "vector.h"

namespace {

constexpr int kRows = 6, kVectors = MACE_TP_TILE_VECTORS;  // a tile of sums in registers
constexpr int64_t kChunk = 48;          // rows that a task multiplies together

int64_t padded(int64_t columns, int64_t lanes) { return (columns + lanes - 1) / lanes * lanes; }

// to[r][from + c] (+)= sum over k of left(r, k) * right[k][from + c], c < width, which is V registers or, in the last one, less.
template <typename T, int R, int V, typename Left>
void multiply(Left left, const T* const* right, int64_t count, T* const* to, int64_t from, int64_t width, bool adds) {
  using Vec = typename Vector<T>::type;
  Vec sum[R][V] = {};
  for (int64_t k = 0; k < count; ++k) {
    const Vec* b = reinterpret_cast<const Vec*>(right[k] + from);
    for (int r = 0; r < R; ++r) {
      const T a = left(r, k);
      for (int v = 0; v < V; ++v) sum[r][v] += a * b[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    const T* numbers = reinterpret_cast<const T*>(sum[r]);
    for (int64_t c = 0; c < width; ++c) to[r][from + c] = adds ? to[r][from + c] + numbers[c] : numbers[c];
  }
}

// The same for any number of rows and columns; what `right` points to is padded to whole registers.
template <typename T, typename Left>
void multiply_all(Left left, int64_t rows, const T* const* right, int64_t count, T* const* to, int64_t columns, bool adds) {
  constexpr int64_t lanes = Vector<T>::lanes;
  for (int64_t from = 0; from < columns;) {
    const bool is_wide = columns - from >= kVectors * lanes;
    const int64_t width = is_wide ? kVectors * lanes : std::min(lanes, columns - from);
    for (int64_t r = 0; r < rows;) {
      const auto shifted = [&](int64_t i, int64_t k) { return left(r + i, k); };
      if (rows - r >= kRows) {
        if (is_wide) multiply<T, kRows, kVectors>(shifted, right, count, to + r, from, width, adds);
        else multiply<T, kRows, 1>(shifted, right, count, to + r, from, width, adds);
        r += kRows;
      } else {
        if (is_wide) multiply<T, 1, kVectors>(shifted, right, count, to + r, from, width, adds);
        else multiply<T, 1, 1>(shifted, right, count, to + r, from, width, adds);
        ++r;
      }
    }
    from += width;
  }
}

// One irrep: some copies of it among the rows of x, one among those of y.
struct Irrep {
  int64_t first_x, copies, dim, first_y;
  int64_t x_row(int64_t copy, int64_t component) const { return first_x + copy * dim + component; }
  int64_t y_row(int64_t component) const { return first_y + component; }
};

// Nodes by element: those of element s are nodes[begin[s]] to nodes[begin[s + 1]].
struct Nodes {
  std::vector<int64_t> nodes, begin;
  Nodes(int64_t count, int64_t elements, const int32_t* species) : nodes(count), begin(elements + 1) {
    if (elements == 1) {
      std::iota(nodes.begin(), nodes.end(), 0);
      begin[1] = count;
      return;
    }
    for (int64_t n = 0; n < count; ++n) ++begin[species[n] + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t n = 0; n < count; ++n) nodes[next[species[n]]++] = n;
  }
};

// x [rows, nodes, in], y [rows, nodes, out], and for each irrep matrices [elements, copies, in, out]; one of the three is what is wanted.
template <typename T>
struct Problem {
  std::vector<Irrep> irreps;
  std::vector<T*> matrices;
  std::vector<T> scales;
  T *x, *y;
  int64_t x_rows, y_rows, count, in, out, elements;
  Nodes nodes;
  T* x_at(int64_t row, int64_t node) const { return x + (row * count + node) * in; }
  T* y_at(int64_t row, int64_t node) const { return y + (row * count + node) * out; }
  T* matrix(int64_t irrep, int64_t element, int64_t copy) const {
    return matrices[irrep] + (element * irreps[irrep].copies + copy) * in * out;
  }
};

struct Task {
  int64_t irrep, element, copy, first;
};

// y from x and matrices, or x from y and their transposes. A task has some rows of one irrep and element; one of x, of one copy.
template <typename T>
void apply(ffi::ThreadPool& pool, const Problem<T>& problem, bool is_transposed) {
  std::fill_n(is_transposed ? problem.x : problem.y, is_transposed ? problem.x_rows * problem.count * problem.in : problem.y_rows * problem.count * problem.out, T(0));
  std::vector<Task> tasks;
  for (int64_t i = 0; i < static_cast<int64_t>(problem.irreps.size()); ++i)
    for (int64_t s = 0; s < problem.elements; ++s)
      for (int64_t copy = 0; copy < (is_transposed ? problem.irreps[i].copies : 1); ++copy)
        for (int64_t first = 0; first < (problem.nodes.begin[s + 1] - problem.nodes.begin[s]) * problem.irreps[i].dim; first += kChunk)
          tasks.push_back({i, s, copy, first});
  const int64_t count = is_transposed ? problem.out : problem.in, columns = is_transposed ? problem.in : problem.out;
  const int64_t stride = padded(columns, Vector<T>::lanes);
  run_tasks(pool, tasks.size(), [&](int64_t number) {
    const Task& task = tasks[number];
    const Irrep& irrep = problem.irreps[task.irrep];
    const int64_t begin = problem.nodes.begin[task.element];
    const int64_t rows = std::min(kChunk, (problem.nodes.begin[task.element + 1] - begin) * irrep.dim - task.first);
    Aligned<T> padded_matrix(count * stride);
    std::vector<const T*> right(count), left(rows);
    std::vector<T*> to(rows);
    for (int64_t k = 0; k < count; ++k) right[k] = padded_matrix.data() + k * stride;
    for (int64_t copy = task.copy; copy < (is_transposed ? task.copy + 1 : irrep.copies); ++copy) {
      const T* matrix = problem.matrix(task.irrep, task.element, copy);
      const T scale = problem.scales[task.irrep];
      for (int64_t k = 0; k < count; ++k)
        for (int64_t c = 0; c < columns; ++c) padded_matrix[k * stride + c] = scale * (is_transposed ? matrix[c * count + k] : matrix[k * columns + c]);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t node = problem.nodes.nodes[begin + (task.first + r) / irrep.dim], component = (task.first + r) % irrep.dim;
        T *x = problem.x_at(irrep.x_row(copy, component), node), *y = problem.y_at(irrep.y_row(component), node);
        left[r] = is_transposed ? y : x;
        to[r] = is_transposed ? x : y;
      }
      multiply_all<T>([&](int64_t r, int64_t k) { return left[r][k]; }, rows, right.data(), count, to.data(), columns, copy > task.copy);
    }
  });
}

// Matrices from x and y: outer products, summed over the rows of an element. A task has some rows of one matrix.
template <typename T>
void outer(ffi::ThreadPool& pool, const Problem<T>& problem) {
  constexpr int64_t slice = 2 * kRows;
  std::vector<Task> tasks;
  for (int64_t i = 0; i < static_cast<int64_t>(problem.irreps.size()); ++i)
    for (int64_t s = 0; s < problem.elements; ++s)
      for (int64_t copy = 0; copy < problem.irreps[i].copies; ++copy)
        for (int64_t first = 0; first < problem.in; first += slice) tasks.push_back({i, s, copy, first});
  const int64_t stride = padded(problem.out, Vector<T>::lanes);
  run_tasks(pool, tasks.size(), [&](int64_t number) {
    const Task& task = tasks[number];
    const Irrep& irrep = problem.irreps[task.irrep];
    const int64_t begin = problem.nodes.begin[task.element], all = (problem.nodes.begin[task.element + 1] - begin) * irrep.dim;
    const int64_t rows = std::min(slice, problem.in - task.first);
    Aligned<T> padded_rows(kChunk * stride);
    std::vector<const T*> right(kChunk), left(kChunk);
    std::vector<T*> to(rows);
    for (int64_t r = 0; r < rows; ++r) {
      to[r] = problem.matrix(task.irrep, task.element, task.copy) + (task.first + r) * problem.out;
      std::fill_n(to[r], problem.out, T(0));
    }
    for (int64_t first = 0; first < all; first += kChunk) {
      const int64_t count = std::min(kChunk, all - first);
      for (int64_t k = 0; k < count; ++k) {
        const int64_t node = problem.nodes.nodes[begin + (first + k) / irrep.dim], component = (first + k) % irrep.dim;
        const T* y = problem.y_at(irrep.y_row(component), node);
        left[k] = problem.x_at(irrep.x_row(task.copy, component), node) + task.first;
        right[k] = stride == problem.out ? y : padded_rows.data() + k * stride;
        if (stride != problem.out) std::copy_n(y, problem.out, padded_rows.data() + k * stride);
      }
      multiply_all<T>([&](int64_t r, int64_t k) { return left[k][r]; }, rows, right.data(), count, to.data(), problem.out, true);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < problem.out; ++c) to[r][c] *= problem.scales[task.irrep];
  });
}

// Arguments: two of x, the matrices and y, in this order, then species [nodes]. `irreps` has a row for each: first row of x, copies, dimension,
// first row of y. `wanted`: 0 for x, 1 for the matrices, 2 for y.
template <typename T>
ffi::Fault handle(ffi::Frame& frame) {
  const auto irreps = frame.array<int32_t>("irreps");
  const auto scales = frame.array<double>("scales");
  const int32_t wanted = frame.scalar<int32_t>("wanted");
  const int64_t num_irreps = irreps.size() / 4;
  std::vector<ffi::Buffer<T>> buffers;  // x, matrices, y, wherever they come from
  int64_t next_argument = 0, next_result = 0;
  for (int32_t part = 0; part < 3; ++part)
    for (int64_t i = 0; i < (part == 1 ? num_irreps : 1); ++i)
      buffers.push_back(part == wanted ? frame.result<T>(next_result++) : frame.argument<T>(next_argument++));
  const auto species = frame.argument<int32_t>(next_argument);
  if (!frame.fault().empty()) return frame.fault();
  const int64_t *x = buffers.front().dimensions, *y = buffers.back().dimensions;
  const int64_t elements = buffers[1].dimensions[0];
  const int32_t *first = species.data, *last = first + species.count();
  if (elements > 1 && last - first != x[1]) return "species has not one entry for each node";
  if (elements > 1 && std::any_of(first, last, [&](int32_t s) { return s < 0 || s >= elements; })) return "an element is out of bounds";
  Problem<T> problem{{}, {}, {scales.begin(), scales.end()}, buffers.front().data, buffers.back().data, x[0], y[0], x[1], x[2], y[2],
                     elements, Nodes(x[1], elements, first)};
  for (int64_t i = 0; i < num_irreps; ++i) {
    const int32_t* row = irreps.begin() + 4 * i;
    problem.irreps.push_back({row[0], row[1], row[2], row[3]});
    problem.matrices.push_back(buffers[1 + i].data);
  }
  if (wanted == 1) outer(frame.pool, problem);
  else apply(frame.pool, problem, wanted == 0);
  return {};
}

}  // namespace

MACE_TP_HANDLER(handle)
