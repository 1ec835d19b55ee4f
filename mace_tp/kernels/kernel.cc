// Evaluates sparse polynomials over channels for many items, without intermediate arrays.
//
// source.py writes a function that evaluates a polynomial for one item; it is compiled separately and registered by `add_polynomial`. This
// file does the rest: it finds the rows of an item and divides the work among threads. Threads divide the items if few rows of sums are shared
// between threads, otherwise the channels. Each thread accumulates a shared row in memory of its own, and these parts are added up in a fixed
// order at the end. No two threads write to the same place, and no result depends on which thread computed it.

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "aligned.h"
#include "ffi.h"
#include "parallel.h"
#include "vector.h"

namespace {

constexpr int64_t kMaxApart = 64 << 20;   // bytes of all private rows
constexpr int64_t kCacheLine = 64;        // bytes
constexpr int64_t kManyItems = 16;        // per thread: enough to divide the items
constexpr int64_t kLeastOwn = 4;          // rows of a sum per private row
constexpr int64_t kLeastItems = 16;       // items per private row

template <typename T>
constexpr int64_t lanes = Vector<T>::lanes;

// Number of channels, rounded up to whole registers.
template <typename T>
constexpr int64_t padded(int64_t channels) { return (channels + lanes<T> - 1) / lanes<T> * lanes<T>; }

// A compiled polynomial. The pointers point to the rows of an item, at its first channel; the values of a row are `padded` channels apart.
template <typename T>
using Function = void (*)(const T* const* in, T* const* out, int64_t blocks);

std::mutex functions_mutex;
std::map<std::string, void*, std::less<>> functions;

void* find(std::string_view name) {
  std::lock_guard<std::mutex> lock(functions_mutex);
  const auto found = functions.find(name);
  return found == functions.end() ? nullptr : found->second;
}

// An array with one row per item, or with rows that an index selects. Strides are in numbers, not bytes.
template <typename T>
struct Operand {
  T* data;
  int64_t size, rows, stride, row_stride, count;
  const int32_t* index;
  bool is_scalar, values_lead, ascends;  // ascends: its index does
  int32_t least, most;                   // smallest and largest entry of its index
  const int32_t* slot = nullptr;         // for each row its place in `apart`, or -1
  T* apart = nullptr;                    // [slots, size, channels]: private copies of rows that another range of items adds to as well
  int64_t row(int64_t item) const { return index ? index[item] : item; }
};

template <typename T>
struct Call {
  Function<T> function;
  std::vector<Operand<T>> in, out;
  const bool* mask = nullptr;  // of the items; null: all count
  int64_t items = 0, channels = 0;
};

// Pointers to the rows of an item at some channels, for a compiled polynomial. It expects the values of a row `padded` channels apart, so a
// row is copied if its values are farther apart or if its channels do not fill the last register. A copy stays as long as consecutive items
// have the same row, such as the edges of one receiver.
template <typename T, bool kWrites>
class Rows {
 public:
  Rows(const std::vector<Operand<T>>& operands, int64_t channels, int64_t from, int64_t width)
      : operands_(operands), channels_(channels), from_(from), width_(width), stride_(padded<T>(channels)), pointers_(operands.size()) {
    for (const auto& operand : operands) {
      const bool is_copied = !operand.is_scalar && (operand.values_lead || channels != stride_);
      copies_.emplace_back(is_copied ? operand.size * stride_ : 0);
      is_begun_.emplace_back(kWrites && operand.index ? operand.rows : 0);
      rows_.push_back(-1);
    }
  }
  int64_t blocks() const { return (width_ + lanes<T> - 1) / lanes<T>; }
  T* const* pointers() const { return pointers_.data(); }

  void read(int64_t item) {
    for (size_t i = 0; i < operands_.size(); ++i) {
      const bool is_same = move_to(i, item);
      if (!is_same && !copies_[i].empty()) each(i, [](T& copy, const T& value) { copy = value; });
    }
  }
  // Prefetches the rows of an item for indices that do not ascend, so that they are in the cache when the item is evaluated.
  void prefetch(int64_t item) const {
    for (const auto& operand : operands_) {
      if (!operand.index || operand.ascends) continue;
      const Place place = at(operand, operand.index[item]);
      for (int64_t k = 0; k < operand.size; ++k)
        for (int64_t c = 0; c < width_; c += kCacheLine / sizeof(T)) __builtin_prefetch(place.data + k * place.stride + c, kWrites);
    }
  }
  // To be called before the function writes. Adds the sums of the previous row to the output, and zeroes a row at its first item, because
  // nobody has zeroed the output.
  void begin(int64_t item) {
    for (size_t i = 0; i < operands_.size(); ++i) {
      if (operands_[i].index && operands_[i].row(item) != rows_[i]) add(i);
      move_to(i, item);
      if (operands_[i].index && copies_[i].empty() && !is_begun_[i][rows_[i]]) {
        const Place place = at(operands_[i], rows_[i]);
        for (int64_t k = 0; k < operands_[i].size; ++k) std::fill_n(place.data + k * place.stride, width_, T(0));
        is_begun_[i][rows_[i]] = 1;
      }
    }
  }
  // To be called after the function has written.
  void finish() {
    for (size_t i = 0; i < operands_.size(); ++i)
      if (!operands_[i].index && !copies_[i].empty()) each(i, [](const T& copy, T& value) { value = copy; });
  }
  // To be called after the last item.
  void add_sums() {
    for (size_t i = 0; i < operands_.size(); ++i)
      if (operands_[i].index) add(i);
  }

 private:
  // Address of a row's first value, and distance between its values.
  struct Place {
    T* data;
    int64_t stride;
  };
  Place at(const Operand<T>& operand, int64_t row) const {
    if (operand.slot && operand.slot[row] >= 0) return {operand.apart + operand.slot[row] * operand.size * channels_ + from_, channels_};
    return {operand.data + row * operand.row_stride + (operand.is_scalar ? 0 : from_), operand.stride};
  }
  bool move_to(size_t i, int64_t item) {
    const int64_t row = operands_[i].row(item);
    const bool is_same = row == rows_[i];
    rows_[i] = row;
    pointers_[i] = copies_[i].empty() ? at(operands_[i], row).data : copies_[i].data();
    return is_same;
  }
  void add(size_t i) {
    if (rows_[i] < 0 || copies_[i].empty()) return;
    if (is_begun_[i][rows_[i]]) each(i, [](const T& copy, T& value) { value += copy; });
    else each(i, [](const T& copy, T& value) { value = copy; });
    is_begun_[i][rows_[i]] = 1;
    std::fill(copies_[i].begin(), copies_[i].end(), T(0));
  }
  template <typename F>
  void each(size_t i, F f) {
    T* copy = copies_[i].data();
    auto [value, stride] = at(operands_[i], rows_[i]);
    for (int64_t k = 0; k < operands_[i].size; ++k, copy += stride_, value += stride)
      for (int64_t c = 0; c < width_; ++c) f(copy[c], value[c]);
  }

  const std::vector<Operand<T>>& operands_;
  const int64_t channels_, from_, width_, stride_;
  std::vector<T*> pointers_;
  std::vector<int64_t> rows_;
  std::vector<Aligned<T>> copies_;
  std::vector<std::vector<char>> is_begun_;  // for each row of an operand: whether it has been written
};

// Evaluates items `begin` to `end` at channels `from` to `to`. Scalars must be zero before. In sums, only the rows of these items are written.
template <typename T>
void work(const Call<T>& call, const std::vector<Operand<T>>& out, int64_t begin, int64_t end, int64_t from, int64_t to) {
  Rows<T, false> in_rows(call.in, call.channels, from, to - from);
  Rows<T, true> out_rows(out, call.channels, from, to - from);
  for (int64_t item = begin; item < end; ++item) {
    if (call.mask && !call.mask[item]) continue;
    if (item + 1 < end) {
      in_rows.prefetch(item + 1);
      out_rows.prefetch(item + 1);
    }
    in_rows.read(item);
    out_rows.begin(item);
    call.function(in_rows.pointers(), out_rows.pointers(), in_rows.blocks());
    out_rows.finish();
  }
  out_rows.add_sums();
}

// Returns the borders of about `parts` equal ranges of items. If an (ascending) index is given, items with the same entry stay together.
std::vector<int64_t> borders(int64_t items, int64_t parts, const int32_t* index) {
  std::vector<int64_t> found{0};
  for (int64_t part = 1; part < parts; ++part) {
    int64_t border = std::max<int64_t>(items * part / parts, 1);
    while (index && border < items && index[border] == index[border - 1]) ++border;
    if (border > found.back() && border < items) found.push_back(border);
  }
  found.push_back(items);
  return found;
}

// Zeroes the rows of a sum that no item adds to.
template <typename T>
void clear_unused_rows(const Call<T>& call, const Operand<T>& operand) {
  if (operand.count == 0) return;
  std::vector<char> is_used(operand.rows);
  for (int64_t item = 0; item < call.items; ++item) is_used[operand.index[item]] |= !call.mask || call.mask[item];
  const int64_t values = operand.values_lead ? operand.size : 1, row_size = operand.count / operand.rows / values;
  for (int64_t row = 0; row < operand.rows; ++row)
    for (int64_t k = 0; k < (is_used[row] ? 0 : values); ++k) std::fill_n(operand.data + k * operand.stride + row * operand.row_stride, row_size, T(0));
}

// Rows of a sum that several ranges of items add to, because its index does not ascend. The first of these ranges adds to the output, the
// other ranges to private rows.
struct Shared {
  std::vector<std::vector<int32_t>> slot;  // for each range [rows]: place among its private rows, or -1
  std::vector<int64_t> count;              // private rows of each range
  int64_t total() const { return std::accumulate(count.begin(), count.end(), int64_t(0)); }
};

template <typename T>
Shared shared_rows(const Call<T>& call, const Operand<T>& operand, const std::vector<int64_t>& ranges) {
  const int64_t parts = ranges.size() - 1;
  Shared shared{std::vector<std::vector<int32_t>>(parts, std::vector<int32_t>(operand.rows, -1)), std::vector<int64_t>(parts)};
  std::vector<int32_t> first(operand.rows, -1);
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t item = ranges[part]; item < ranges[part + 1]; ++item) {
      if (call.mask && !call.mask[item]) continue;
      const int32_t row = operand.index[item];
      if (first[row] < 0) first[row] = part;
      if (first[row] != part && shared.slot[part][row] < 0) shared.slot[part][row] = shared.count[part]++;
    }
  return shared;
}

// Adds the private rows of a range to the output.
template <typename T>
void add_rows(ffi::ThreadPool& pool, const Operand<T>& operand, const std::vector<int32_t>& slot, const T* apart, int64_t channels) {
  constexpr int64_t chunk = 64;
  run_tasks(pool, (operand.rows + chunk - 1) / chunk, [&](int64_t task) {
    for (int64_t row = task * chunk; row < std::min(operand.rows, (task + 1) * chunk); ++row)
      for (int64_t k = 0; k < (slot[row] < 0 ? 0 : operand.size); ++k) {
        T* value = operand.data + row * operand.row_stride + k * operand.stride;
        const T* more = apart + (slot[row] * operand.size + k) * channels;
        for (int64_t c = 0; c < channels; ++c) value[c] += more[c];
      }
  });
}

// Division of the work: items into ranges, channels into groups.
struct Division {
  std::vector<int64_t> ranges;
  int64_t groups;
  std::vector<Shared> shared;  // for each output; empty if every row belongs to one range
  int64_t parts() const { return ranges.size() - 1; }
};

template <typename T>
Division divide_items(const Call<T>& call, int64_t parts, int64_t groups) {
  const int32_t* ascending = nullptr;
  for (const auto& operand : call.out)
    if (operand.ascends && !ascending) ascending = operand.index;
  Division division{borders(call.items, std::min(parts, call.items / kManyItems + 1), ascending), groups, {}};
  for (const auto& operand : call.out) {
    const bool is_apart = operand.index && operand.index != ascending && division.parts() > 1;
    division.shared.push_back(is_apart ? shared_rows(call, operand, division.ranges) : Shared{});
  }
  return division;
}

// Dividing the channels repeats the work that all channels share. Therefore the items are divided, unless that needs too many private rows.
template <typename T>
Division divide(const Call<T>& call, int64_t threads) {
  const int64_t blocks = (call.channels + lanes<T> - 1) / lanes<T>;
  if (call.items >= kManyItems * threads) {
    Division division = divide_items(call, threads, 1);
    bool is_light = true;
    for (size_t i = 0; i < call.out.size(); ++i) {
      const int64_t apart = division.shared[i].total();
      is_light &= apart * kLeastOwn <= call.out[i].rows || apart * kLeastItems <= call.items;
    }
    if (is_light) return division;
  }
  const int64_t groups = std::max<int64_t>(std::min(blocks, threads), 1);
  Division division = divide_items(call, (threads + groups - 1) / groups, groups);
  int64_t bytes = 0;
  for (size_t i = 0; i < call.out.size(); ++i) bytes += division.shared[i].total() * call.out[i].size * call.channels * sizeof(T);
  return bytes <= kMaxApart ? division : divide_items(call, 1, groups);
}

template <typename T>
void evaluate(ffi::ThreadPool& pool, const Call<T>& call) {
  const int64_t blocks = (call.channels + lanes<T> - 1) / lanes<T>;
  const Division division = divide(call, std::max<int64_t>(pool.num_threads(), 1));
  const int64_t parts = division.parts(), groups = division.groups;
  // A scalar is summed over channels, so each group of channels needs its own copy.
  std::vector<std::vector<Operand<T>>> out_of(groups * parts, call.out);
  std::vector<std::vector<T>> memory;
  std::vector<Aligned<T>> apart(call.out.size() * parts);
  for (size_t i = 0; i < call.out.size(); ++i) {
    const auto& operand = call.out[i];
    for (int64_t group = 1; group < (operand.is_scalar ? groups : 1); ++group) {
      memory.emplace_back(operand.count);
      for (int64_t part = 0; part < parts; ++part) out_of[part * groups + group][i].data = memory.back().data();
    }
    for (int64_t part = 0; part < static_cast<int64_t>(division.shared[i].count.size()); ++part) {
      apart[i * parts + part].resize(division.shared[i].count[part] * operand.size * call.channels);
      for (int64_t group = 0; group < groups; ++group) {
        out_of[part * groups + group][i].slot = division.shared[i].slot[part].data();
        out_of[part * groups + group][i].apart = apart[i * parts + part].data();
      }
    }
    if (operand.index) clear_unused_rows(call, operand);
    else if (operand.is_scalar || call.mask) std::fill_n(operand.data, operand.count, T(0));
  }
  run_tasks(pool, groups * parts, [&](int64_t task) {
    const int64_t group = task % groups, part = task / groups;
    const int64_t from = blocks * group / groups * lanes<T>, to = std::min(blocks * (group + 1) / groups * lanes<T>, call.channels);
    work(call, out_of[task], division.ranges[part], division.ranges[part + 1], from, to);
  });
  size_t next = 0;
  for (size_t i = 0; i < call.out.size(); ++i) {
    const auto& operand = call.out[i];
    for (int64_t group = 1; group < (operand.is_scalar ? groups : 1); ++group, ++next)
      for (int64_t j = 0; j < operand.count; ++j) operand.data[j] += memory[next][j];
    for (int64_t part = 1; part < static_cast<int64_t>(division.shared[i].count.size()); ++part)
      add_rows(pool, operand, division.shared[i].slot[part], apart[i * parts + part].data(), call.channels);
  }
}

struct Range {
  int32_t least, most;
  bool ascends;
};

Range range(const int32_t* index, int64_t count) {
  if (!count) return {0, 0, true};
  Range found{index[0], index[0], true};
  bool falls = false;
  for (int64_t i = 1; i < count; ++i) {
    found.least = std::min(found.least, index[i]);
    found.most = std::max(found.most, index[i]);
    falls |= index[i] < index[i - 1];
  }
  found.ascends = !falls;
  return found;
}

// `operands` has a row for every input and then for every output: size, number of its index or -1, is_scalar, values_lead.
template <typename T>
ffi::Fault handle(ffi::Frame& frame) {
  const int64_t num_inputs = frame.scalar<int32_t>("num_inputs"), num_indices = frame.scalar<int32_t>("num_indices");
  const auto operands = frame.array<int32_t>("operands");
  const auto name = frame.text("function");
  Call<T> call;
  call.function = reinterpret_cast<Function<T>>(find(name));
  if (!call.function) return "no function " + std::string(name);
  std::vector<ffi::Buffer<int32_t>> indices;
  std::vector<Range> ranges;
  for (int64_t i = 0; i < num_indices; ++i) {
    indices.push_back(frame.argument<int32_t>(num_inputs + i));
    ranges.push_back(range(indices[i].data, indices[i].count()));
    call.items = indices[i].count();
  }
  if (frame.num_arguments() > num_inputs + num_indices) {
    const auto mask = frame.argument<bool>(num_inputs + num_indices);
    if (call.items && mask.count() != call.items) return "the mask must have one entry for each item";
    call.mask = mask.data;
    call.items = mask.count();
  }
  if (operands.size() != 4 * (num_inputs + frame.num_results())) return "the table must have one row for each operand";
  const int32_t* row = operands.begin();
  auto operand = [&](ffi::Buffer<T> buffer) {
    const bool is_scalar = row[2], values_lead = row[3];
    const int64_t size = row[0], rows = buffer.dimensions[values_lead], channels = is_scalar ? 1 : buffer.dimensions[2];
    if (!is_scalar) call.channels = channels;
    const int32_t row_index = row[1];
    const int32_t* index = row_index < 0 ? nullptr : indices[row_index].data;
    if (!index) call.items = rows;
    row += 4;
    return Operand<T>{buffer.data, size, rows, values_lead ? rows * channels : channels, values_lead ? channels : size * channels,
                      buffer.count(), index, is_scalar, values_lead, index && ranges[row_index].ascends,
                      index ? ranges[row_index].least : 0, index ? ranges[row_index].most : 0};
  };
  std::vector<ffi::Buffer<T>> in, out;
  for (int64_t i = 0; i < num_inputs; ++i) in.push_back(frame.argument<T>(i));
  for (int64_t i = 0; i < frame.num_results(); ++i) out.push_back(frame.result<T>(i));
  if (!frame.fault().empty()) return frame.fault();
  for (const auto& buffer : in) call.in.push_back(operand(buffer));
  for (const auto& buffer : out) call.out.push_back(operand(buffer));
  for (const auto& index : indices)
    if (index.count() != call.items) return "an index must have one entry for each item";
  for (const auto* group : {&call.in, &call.out})
    for (const auto& operand : *group) {
      if (!operand.index && operand.rows != call.items) return "an operand must have one row for each item";
      if (operand.count != operand.size * operand.rows * (operand.is_scalar ? 1 : call.channels)) return "an operand has the wrong size";
      if (operand.index && call.items && (operand.least < 0 || operand.most >= operand.rows)) return "an index is out of bounds";
    }
  evaluate(frame.pool, call);
  return {};
}

}  // namespace

extern "C" void add_polynomial(const char* name, void* function) {
  std::lock_guard<std::mutex> lock(functions_mutex);
  functions[name] = function;
}

MACE_TP_HANDLER(handle)
