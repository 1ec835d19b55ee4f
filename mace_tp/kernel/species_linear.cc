// Linear maps of channels with a matrix for each element, and their derivatives by the matrices (species_linear.py).
//
// Features are rows of channels, [components, nodes, channels]. The rows of one element are multiplied together, some rows and columns at a
// time whose sums stay in registers. Every number is summed by one task in one order.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

template <typename T>
struct Vector {
  typedef T type __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
  static constexpr int64_t lanes = 64 / sizeof(T);
};

constexpr int kRows = 6, kVectors = 4;  // 24 sums in registers
constexpr int64_t kChunk = 48;          // rows of a task, or of the sums of a derivative, that stay in the cache together

// Rows of x by element, each element's one after another.
struct Sorted {
  std::vector<int64_t> rows, begin;  // of element s: begin[s] to begin[s + 1]
  Sorted(const int32_t* species, int64_t nodes, int64_t components, int64_t elements) : begin(elements + 1) {
    for (int64_t n = 0; n < nodes; ++n) begin[species[n] + 1] += components;
    for (int64_t s = 0; s < elements; ++s) begin[s + 1] += begin[s];
    rows.resize(nodes * components);
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t m = 0; m < components; ++m)
      for (int64_t n = 0; n < nodes; ++n) rows[next[species[n]]++] = m * nodes + n;
  }
};

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

int64_t padded(int64_t columns, int64_t lanes) { return (columns + lanes - 1) / lanes * lanes; }

bool in_bounds(ffi::Buffer<ffi::DataType::S32>& species, int64_t elements) {
  return std::all_of(species.typed_data(), species.typed_data() + species.element_count(), [&](int32_t s) { return s >= 0 && s < elements; });
}

ffi::Error wrong(const char* what) { return ffi::Error(ffi::ErrorCode::kInvalidArgument, what); }

// x [components, nodes, in], matrices [elements, in, out], or [elements, out, in] to be transposed → [components, nodes, out].
template <ffi::DataType D>
ffi::Error apply(ffi::ThreadPool pool, ffi::Buffer<D> x, ffi::Buffer<D> matrices, ffi::Buffer<ffi::DataType::S32> species,
                 ffi::ResultBuffer<D> y, int32_t is_transposed) {
  using T = ffi::NativeType<D>;
  const int64_t components = x.dimensions()[0], nodes = x.dimensions()[1], in = x.dimensions()[2], out = y->dimensions()[2];
  const int64_t elements = matrices.dimensions()[0], stride = padded(out, Vector<T>::lanes);
  if (!in_bounds(species, elements)) return wrong("mace_tp species_linear: an element is out of bounds");
  const Sorted sorted(species.typed_data(), nodes, components, elements);
  std::vector<int64_t> tasks;  // first row of each
  for (int64_t s = 0; s < elements; ++s)
    for (int64_t row = sorted.begin[s]; row < sorted.begin[s + 1]; row += kChunk) tasks.push_back(row);
  run_tasks(pool, tasks.size(), [&](int64_t task) {
    const int64_t first = tasks[task];
    const int64_t s = std::upper_bound(sorted.begin.begin(), sorted.begin.end(), first) - sorted.begin.begin() - 1;
    const int64_t rows = std::min(kChunk, sorted.begin[s + 1] - first);
    const T* matrix = matrices.typed_data() + s * in * out;
    std::vector<T> copy(in * stride);
    std::vector<const T*> right(in), left(rows);
    std::vector<T*> to(rows);
    for (int64_t c = 0; c < in; ++c) {
      right[c] = copy.data() + c * stride;
      for (int64_t d = 0; d < out; ++d) copy[c * stride + d] = is_transposed ? matrix[d * in + c] : matrix[c * out + d];
    }
    for (int64_t r = 0; r < rows; ++r) {
      left[r] = x.typed_data() + sorted.rows[first + r] * in;
      to[r] = y->typed_data() + sorted.rows[first + r] * out;
    }
    multiply_all<T>([&](int64_t r, int64_t k) { return left[r][k]; }, rows, right.data(), in, to.data(), out, false);
  });
  return ffi::Error::Success();
}

// x [components, nodes, in], y [components, nodes, out] → sums of outer products over the rows of each element [elements, in, out].
template <ffi::DataType D>
ffi::Error outer(ffi::ThreadPool pool, ffi::Buffer<D> x, ffi::Buffer<D> y, ffi::Buffer<ffi::DataType::S32> species,
                 ffi::ResultBuffer<D> matrices) {
  using T = ffi::NativeType<D>;
  const int64_t components = x.dimensions()[0], nodes = x.dimensions()[1], in = x.dimensions()[2], out = y.dimensions()[2];
  const int64_t elements = matrices->dimensions()[0], stride = padded(out, Vector<T>::lanes);
  if (!in_bounds(species, elements)) return wrong("mace_tp species_linear: an element is out of bounds");
  const Sorted sorted(species.typed_data(), nodes, components, elements);
  const int64_t slices = (in + 2 * kRows - 1) / (2 * kRows);
  run_tasks(pool, elements * slices, [&](int64_t task) {
    const int64_t s = task / slices, from = task % slices * 2 * kRows, rows = std::min<int64_t>(2 * kRows, in - from);
    std::vector<T> copy(kChunk * stride);
    std::vector<const T*> right(kChunk), left(kChunk);
    std::vector<T*> to(rows);
    for (int64_t r = 0; r < rows; ++r) {
      to[r] = matrices->typed_data() + (s * in + from + r) * out;
      std::fill_n(to[r], out, T(0));
    }
    for (int64_t first = sorted.begin[s]; first < sorted.begin[s + 1]; first += kChunk) {
      const int64_t count = std::min(kChunk, sorted.begin[s + 1] - first);
      for (int64_t k = 0; k < count; ++k) {
        left[k] = x.typed_data() + sorted.rows[first + k] * in + from;
        const T* row = y.typed_data() + sorted.rows[first + k] * out;
        right[k] = stride == out ? row : copy.data() + k * stride;
        if (stride != out) std::copy_n(row, out, copy.data() + k * stride);
      }
      multiply_all<T>([&](int64_t r, int64_t k) { return left[k][r]; }, rows, right.data(), count, to.data(), out, true);
    }
  });
  return ffi::Error::Success();
}

template <ffi::DataType D>
auto bind_apply() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .template Arg<ffi::Buffer<D>>()
      .template Arg<ffi::Buffer<D>>()
      .template Arg<ffi::Buffer<ffi::DataType::S32>>()
      .template Ret<ffi::Buffer<D>>()
      .template Attr<int32_t>("is_transposed");
}

template <ffi::DataType D>
auto bind_outer() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .template Arg<ffi::Buffer<D>>()
      .template Arg<ffi::Buffer<D>>()
      .template Arg<ffi::Buffer<ffi::DataType::S32>>()
      .template Ret<ffi::Buffer<D>>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(apply_float32, apply<ffi::DataType::F32>, bind_apply<ffi::DataType::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(apply_float64, apply<ffi::DataType::F64>, bind_apply<ffi::DataType::F64>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(outer_float32, outer<ffi::DataType::F32>, bind_outer<ffi::DataType::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(outer_float64, outer<ffi::DataType::F64>, bind_outer<ffi::DataType::F64>());
