// Linear maps of channels, irrep by irrep, with one matrix for all nodes or one per element, and their derivatives (linear.py).
//
// Rows of features [components, nodes, channels] that share a matrix are multiplied together, in tiles of rows and columns whose sums stay in
// registers. One task computes each sum, always in the same order.

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
constexpr int64_t kChunk = 48;    // rows of features per task
constexpr int64_t kSummed = 192;  // rows of features that are summed in registers before the sum is stored

int64_t padded(int64_t columns, int64_t lanes) { return (columns + lanes - 1) / lanes * lanes; }

// scale * Σ_k left(r, k) right(k)[c]; `right` points to whole registers.
template <typename T, typename Left, typename Right>
struct Product {
  Left left;
  Right right;
  int64_t count;
  T scale;
  bool adds;  // to the output, instead of overwriting it
};

// One tile: R rows and `width` columns from `from` on, which fill V registers, the last one possibly in part.
template <int R, int V, typename T, typename Left, typename Right>
void multiply_tile(const Product<T, Left, Right>& product, int64_t first, T* const* to, int64_t from, int64_t width) {
  using Vec = typename Vector<T>::type;
  Vec sum[R][V] = {};
  for (int64_t k = 0; k < product.count; ++k) {
    const Vec* b = reinterpret_cast<const Vec*>(product.right(k) + from);
    for (int r = 0; r < R; ++r) {
      const T a = product.left(first + r, k);
      for (int v = 0; v < V; ++v) sum[r][v] += a * b[v];
    }
  }
  const bool is_full = width == V * Vector<T>::lanes;
  for (int r = 0; r < R; ++r) {
    T* row = to[first + r] + from;
    for (int v = 0; v < V; ++v) sum[r][v] *= product.scale;
    if (is_full && product.adds) for (int v = 0; v < V; ++v) reinterpret_cast<Vec*>(row)[v] += sum[r][v];
    else if (is_full) for (int v = 0; v < V; ++v) reinterpret_cast<Vec*>(row)[v] = sum[r][v];
    else for (int64_t c = 0; c < width; ++c) row[c] = reinterpret_cast<const T*>(sum[r])[c] + (product.adds ? row[c] : 0);
  }
}

// The remaining rows, at most R.
template <int R, int V, typename T, typename Left, typename Right>
void multiply_rows(const Product<T, Left, Right>& product, int64_t first, int64_t rows, T* const* to, int64_t from, int64_t width) {
  if (rows >= R) multiply_tile<R, V>(product, first, to, from, width);
  else if constexpr (R > 1) multiply_rows<R - 1, V>(product, first, rows, to, from, width);
}

// All rows and columns.
template <typename T, typename Left, typename Right>
void multiply(const Product<T, Left, Right>& product, int64_t rows, T* const* to, int64_t columns) {
  constexpr int64_t lanes = Vector<T>::lanes;
  for (int64_t from = 0; from < columns;) {
    const bool is_wide = columns - from >= kVectors * lanes;
    const int64_t width = is_wide ? kVectors * lanes : std::min(lanes, columns - from);
    for (int64_t r = 0; r < rows; r += kRows) {
      if (is_wide) multiply_rows<kRows, kVectors>(product, r, rows - r, to, from, width);
      else multiply_rows<kRows, 1>(product, r, rows - r, to, from, width);
    }
    from += width;
  }
}

// One irrep: its copies in the rows of x, and its single copy in those of y.
struct Irrep {
  int64_t first_x, copies, dim, first_y;
  int64_t x_row(int64_t copy, int64_t component) const { return first_x + copy * dim + component; }
  int64_t y_row(int64_t component) const { return first_y + component; }
};

// Nodes sorted by element: those of element s are nodes[begin[s]] to nodes[begin[s + 1] - 1].
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

// x [rows, nodes, in], y [rows, nodes, out], and for each irrep matrices [elements, copies, in, out]; one of the three is the output.
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

// Zeroes the rows that no irrep writes.
template <typename T>
void clear_rows(const std::vector<bool>& is_written, T* data, int64_t row_size) {
  for (size_t row = 0; row < is_written.size(); ++row)
    if (!is_written[row]) std::fill_n(data + row * row_size, row_size, T(0));
}

// to[r][c] = from[c][r], a few rows at a time, so that they stay in the cache.
template <typename T>
void transpose(const T* from, int64_t rows, int64_t columns, T* to, int64_t stride) {
  constexpr int64_t together = 16;
  for (int64_t first = 0; first < rows; first += together)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = first; r < std::min(first + together, rows); ++r) to[r * stride + c] = from[c * rows + r];
}

// The right factor of a product for one irrep and element: [copies, count, stride].
template <typename T>
struct Factor {
  const T* data;
  int64_t stride;
};

// Uses matrices whose rows fill whole registers in place; copies the rest, and all that must be transposed.
template <typename T>
std::vector<Factor<T>> factors(ffi::ThreadPool& pool, const Problem<T>& problem, bool is_transposed, Aligned<T>& memory) {
  const int64_t count = is_transposed ? problem.out : problem.in, columns = is_transposed ? problem.in : problem.out;
  const int64_t stride = padded(columns, Vector<T>::lanes), irreps = problem.irreps.size();
  std::vector<Factor<T>> found;
  std::vector<int64_t> places;  // of the copies in `memory`
  int64_t size = 0;
  for (int64_t i = 0; i < irreps; ++i)
    for (int64_t s = 0; s < problem.elements; ++s) {
      found.push_back({problem.matrix(i, s, 0), columns});
      places.push_back(size);
      if (problem.nodes.begin[s + 1] > problem.nodes.begin[s]) size += problem.irreps[i].copies * count * stride;
    }
  if (!is_transposed && stride == columns) return found;
  memory.resize(size);
  run_tasks(pool, found.size(), [&](int64_t number) {
    const int64_t i = number / problem.elements, s = number % problem.elements;
    if (problem.nodes.begin[s + 1] == problem.nodes.begin[s]) return;
    T* to = memory.data() + places[number];
    for (int64_t copy = 0; copy < problem.irreps[i].copies; ++copy, to += count * stride) {
      const T* matrix = problem.matrix(i, s, copy);
      if (is_transposed) transpose(matrix, count, columns, to, stride);
      else for (int64_t k = 0; k < count; ++k) std::copy_n(matrix + k * columns, columns, to + k * stride);
    }
    found[number] = {memory.data() + places[number], stride};
  });
  return found;
}

struct Task {
  int64_t irrep, element, copy, first;
};

// Computes y from x and the matrices, or x from y and the transposed matrices. A task is some rows of one irrep and element (for x also of one
// copy).
template <typename T>
void apply(ffi::ThreadPool& pool, const Problem<T>& problem, bool is_transposed) {
  std::vector<Task> tasks;
  std::vector<bool> is_written(is_transposed ? problem.x_rows : problem.y_rows);
  for (int64_t i = 0; i < static_cast<int64_t>(problem.irreps.size()); ++i) {
    const Irrep& irrep = problem.irreps[i];
    const int64_t copies = is_transposed ? irrep.copies : 1;
    std::fill_n(is_written.begin() + (is_transposed ? irrep.first_x : irrep.first_y), copies * irrep.dim, true);
    for (int64_t s = 0; s < problem.elements; ++s)
      for (int64_t copy = 0; copy < copies; ++copy)
        for (int64_t first = 0; first < (problem.nodes.begin[s + 1] - problem.nodes.begin[s]) * irrep.dim; first += kChunk)
          tasks.push_back({i, s, copy, first});
  }
  if (is_transposed) clear_rows(is_written, problem.x, problem.count * problem.in);
  else clear_rows(is_written, problem.y, problem.count * problem.out);
  Aligned<T> memory;
  const auto matrices = factors(pool, problem, is_transposed, memory);
  const int64_t count = is_transposed ? problem.out : problem.in, columns = is_transposed ? problem.in : problem.out;
  run_tasks(pool, tasks.size(), [&](int64_t number) {
    const Task& task = tasks[number];
    const Irrep& irrep = problem.irreps[task.irrep];
    const Factor<T>& matrix = matrices[task.irrep * problem.elements + task.element];
    const int64_t begin = problem.nodes.begin[task.element], copies = is_transposed ? 1 : irrep.copies;
    const int64_t rows = std::min(kChunk, (problem.nodes.begin[task.element + 1] - begin) * irrep.dim - task.first);
    std::vector<const T*> left(rows);
    std::vector<T*> to(rows);
    for (int64_t copy = 0; copy < copies; ++copy) {
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t node = problem.nodes.nodes[begin + (task.first + r) / irrep.dim], component = (task.first + r) % irrep.dim;
        T *x = problem.x_at(irrep.x_row(is_transposed ? task.copy : copy, component), node), *y = problem.y_at(irrep.y_row(component), node);
        left[r] = is_transposed ? y : x;
        to[r] = is_transposed ? x : y;
      }
      const T* first = matrix.data + (is_transposed ? task.copy : copy) * count * matrix.stride;
      const auto of_left = [&](int64_t r, int64_t k) { return left[r][k]; };
      const auto of_right = [&](int64_t k) { return first + k * matrix.stride; };
      multiply(Product<T, decltype(of_left), decltype(of_right)>{of_left, of_right, count, problem.scales[task.irrep], copy > 0}, rows, to.data(), columns);
    }
  });
}

// Computes the matrices from x and y: outer products, summed over the rows of an element. A task is some rows of one matrix.
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
    Aligned<T> padded_rows(stride == problem.out ? 0 : kSummed * stride);
    std::vector<const T*> right(kSummed), left(kSummed);
    std::vector<T*> to(rows);
    for (int64_t r = 0; r < rows; ++r) {
      to[r] = problem.matrix(task.irrep, task.element, task.copy) + (task.first + r) * problem.out;
      if (!all) std::fill_n(to[r], problem.out, T(0));
    }
    for (int64_t first = 0; first < all; first += kSummed) {
      const int64_t count = std::min(kSummed, all - first);
      for (int64_t k = 0; k < count; ++k) {
        const int64_t node = problem.nodes.nodes[begin + (first + k) / irrep.dim], component = (first + k) % irrep.dim;
        const T* y = problem.y_at(irrep.y_row(component), node);
        left[k] = problem.x_at(irrep.x_row(task.copy, component), node) + task.first;
        right[k] = stride == problem.out ? y : padded_rows.data() + k * stride;
        if (stride != problem.out) std::copy_n(y, problem.out, padded_rows.data() + k * stride);
      }
      const auto of_left = [&](int64_t r, int64_t k) { return left[k][r]; };
      const auto of_right = [&](int64_t k) { return right[k]; };
      multiply(Product<T, decltype(of_left), decltype(of_right)>{of_left, of_right, count, problem.scales[task.irrep], first > 0}, rows, to.data(), problem.out);
    }
  });
}

// Arguments: two of (x, matrices, y) in this order, then species [nodes]. The attribute `wanted` names the third, the result: 0 for x, 1 for
// the matrices, 2 for y. `irreps` has a row for each irrep: first row of x, copies, dimension, first row of y.
template <typename T>
ffi::Fault handle(ffi::Frame& frame) {
  const auto irreps = frame.array<int32_t>("irreps");
  const auto scales = frame.array<double>("scales");
  const int32_t wanted = frame.scalar<int32_t>("wanted");
  const int64_t num_irreps = irreps.size() / 4;
  std::vector<ffi::Buffer<T>> buffers;  // x, matrices, y: arguments and results
  int64_t next_argument = 0, next_result = 0;
  for (int32_t part = 0; part < 3; ++part)
    for (int64_t i = 0; i < (part == 1 ? num_irreps : 1); ++i)
      buffers.push_back(part == wanted ? frame.result<T>(next_result++) : frame.argument<T>(next_argument++));
  const auto species = frame.argument<int32_t>(next_argument);
  if (!frame.fault().empty()) return frame.fault();
  const int64_t *x = buffers.front().dimensions, *y = buffers.back().dimensions;
  const int64_t elements = buffers[1].dimensions[0];
  const int32_t *first = species.data, *last = first + species.count();
  if (elements > 1 && last - first != x[1]) return "species must have one entry for each node";
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
