// Calls from XLA through its C interface. XLA's own C++ header does the same, but compiling it takes longer than the rest of the program.

#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "xla/ffi/api/c_api.h"

namespace ffi {

template <typename T>
struct DataType;
template <>
struct DataType<bool> { static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_PRED; };
template <>
struct DataType<int32_t> { static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_S32; };
template <>
struct DataType<int64_t> { static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_S64; };
template <>
struct DataType<float> { static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_F32; };
template <>
struct DataType<double> { static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_F64; };

// The error of a call; empty if there is none.
using Fault = std::string;

template <typename T>
struct Span {
  const T* data = nullptr;
  int64_t count = 0;
  const T* begin() const { return data; }
  const T* end() const { return data + count; }
  int64_t size() const { return count; }
};

template <typename T>
struct Buffer {
  T* data = nullptr;
  const int64_t* dimensions = nullptr;
  int64_t rank = 0;
  int64_t count() const {
    int64_t product = 1;
    for (int64_t i = 0; i < rank; ++i) product *= dimensions[i];
    return product;
  }
};

// XLA's threads.
class ThreadPool {
 public:
  explicit ThreadPool(const XLA_FFI_CallFrame* frame) : api_(frame->api), context_(frame->ctx) {}
  int64_t num_threads() const {
    int64_t count = 0;
    XLA_FFI_ThreadPool_NumThreads_Args arguments = {XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, nullptr, context_, &count};
    forget(api_->XLA_FFI_ThreadPool_NumThreads(&arguments));
    return count;
  }
  // Runs a task in a thread of the pool, or in this thread if there is no pool.
  template <typename F>
  void Schedule(F task) {
    const auto run = [](void* data) {
      F* task = static_cast<F*>(data);
      (*task)();
      delete task;
    };
    F* data = new F(std::move(task));
    XLA_FFI_ThreadPool_Schedule_Args arguments = {XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, nullptr, context_, run, data};
    if (forget(api_->XLA_FFI_ThreadPool_Schedule(&arguments))) run(data);
  }

 private:
  bool forget(XLA_FFI_Error* error) const {
    if (!error) return false;
    XLA_FFI_Error_Destroy_Args arguments = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
    api_->XLA_FFI_Error_Destroy(&arguments);
    return true;
  }
  const XLA_FFI_Api* api_;
  XLA_FFI_ExecutionContext* context_;
};

// Arguments, results and attributes of a call. Reading one with the wrong type is a fault; the first fault is kept.
class Frame {
 public:
  explicit Frame(const XLA_FFI_CallFrame* frame) : pool(frame), frame_(frame) {}
  ThreadPool pool;
  int64_t num_arguments() const { return frame_->args.size; }
  int64_t num_results() const { return frame_->rets.size; }
  template <typename T>
  Buffer<T> argument(int64_t i) { return buffer<T>(i < frame_->args.size ? frame_->args.args[i] : nullptr); }
  template <typename T>
  Buffer<T> result(int64_t i) { return buffer<T>(i < frame_->rets.size ? frame_->rets.rets[i] : nullptr); }
  template <typename T>
  T scalar(const char* name) {
    const auto* found = static_cast<const XLA_FFI_Scalar*>(attribute(name, XLA_FFI_AttrType_SCALAR));
    if (found && found->dtype == DataType<T>::value) return *static_cast<const T*>(found->value);
    note(std::string("attribute ") + name);
    return T();
  }
  template <typename T>
  Span<T> array(const char* name) {
    const auto* found = static_cast<const XLA_FFI_Array*>(attribute(name, XLA_FFI_AttrType_ARRAY));
    if (found && found->dtype == DataType<T>::value) return {static_cast<const T*>(found->data), static_cast<int64_t>(found->size)};
    note(std::string("attribute ") + name);
    return {};
  }
  std::string_view text(const char* name) {
    const auto* found = static_cast<const XLA_FFI_ByteSpan*>(attribute(name, XLA_FFI_AttrType_STRING));
    if (found) return {found->ptr, found->len};
    note(std::string("attribute ") + name);
    return {};
  }
  const Fault& fault() const { return fault_; }

 private:
  void note(std::string what) {
    if (fault_.empty()) fault_ = what + " is missing or has the wrong type";
  }
  template <typename T>
  Buffer<T> buffer(const void* given) {
    const auto* found = static_cast<const XLA_FFI_Buffer*>(given);
    if (found && found->dtype == DataType<T>::value) return {static_cast<T*>(found->data), found->dims, found->rank};
    note("an array");
    return {};
  }
  const void* attribute(const char* name, XLA_FFI_AttrType type) const {
    const auto& attributes = frame_->attrs;
    for (int64_t i = 0; i < attributes.size; ++i)
      if (attributes.types[i] == type && std::string_view(attributes.names[i]->ptr, attributes.names[i]->len) == name) return attributes.attrs[i];
    return nullptr;
  }
  const XLA_FFI_CallFrame* frame_;
  Fault fault_;
};

// Answers XLA with `handle`, a function that takes a Frame and returns a Fault.
inline XLA_FFI_Error* answer(XLA_FFI_CallFrame* frame, Fault (*handle)(Frame&)) {
  if (frame->extension_start && frame->extension_start->type == XLA_FFI_Extension_Metadata) {
    auto* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame->extension_start)->metadata;
    metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
    metadata->traits = 0;
    metadata->state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
    return nullptr;
  }
  Frame given(frame);
  const Fault fault = handle(given);
  if (fault.empty()) return nullptr;
  const std::string message = "mace_tp kernel: " + fault;
  XLA_FFI_Error_Create_Args arguments = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, nullptr, message.c_str(), XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return frame->api->XLA_FFI_Error_Create(&arguments);
}

}  // namespace ffi

// A library holds the handler of one dtype, so that nobody waits for the other dtype to compile.
#define MACE_TP_HANDLER(handle) \
  extern "C" XLA_FFI_Error* mace_tp_handler(XLA_FFI_CallFrame* frame) { return ffi::answer(frame, handle<MACE_TP_TYPE>); }
