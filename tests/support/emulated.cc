// Calls a handler of the kernel as XLA does, in a process that an emulator runs: emulated.py writes the arguments to a file and reads the results.
//
// Arguments: library and symbol of the handler, input file, output file, then library, symbol of each function of a polynomial.

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "xla/ffi/api/c_api.h"

namespace {

[[noreturn]] void fail(const std::string& reason) {
  std::fprintf(stderr, "%s\n", reason.c_str());
  std::exit(1);
}

template <typename F>
F find(const char* library, const char* symbol) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  void* found = handle ? dlsym(handle, symbol) : nullptr;
  if (!found) fail(dlerror());
  return reinterpret_cast<F>(found);
}

XLA_FFI_Error* create_error(XLA_FFI_Error_Create_Args* args) { fail(args->message); }

XLA_FFI_Error* num_threads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = 3;  // the work is divided, though one thread does all
  return nullptr;
}

XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  args->task(args->data);
  return nullptr;
}

class Reader {
 public:
  explicit Reader(const char* path) : file_(std::fopen(path, "rb")) {
    if (!file_) fail(std::string("no file ") + path);
  }
  int64_t number() {
    int64_t value = 0;
    bytes(&value, sizeof(value));
    return value;
  }
  void bytes(void* to, int64_t count) {
    if (std::fread(to, 1, count, file_) != static_cast<size_t>(count)) fail("the input file is too short");
  }

 private:
  FILE* file_;
};

// An array as XLA hands it over; data begin at a cache line.
struct Array {
  std::vector<int64_t> dims;
  int64_t num_bytes;
  XLA_FFI_Buffer buffer;
  explicit Array(Reader& reader) {
    const auto dtype = static_cast<XLA_FFI_DataType>(reader.number());
    dims.resize(reader.number());
    for (int64_t& dim : dims) dim = reader.number();
    num_bytes = reader.number();
    void* data = std::aligned_alloc(64, (num_bytes + 64) / 64 * 64);
    std::memset(data, 0xff, num_bytes);  // not a number: whatever is not written is found
    buffer = {XLA_FFI_Buffer_STRUCT_SIZE, nullptr, dtype, data, static_cast<int64_t>(dims.size()), dims.data()};
  }
};

std::vector<Array*> arrays(Reader& reader, bool has_data) {
  std::vector<Array*> found;
  for (int64_t count = reader.number(); count > 0; --count) {
    found.push_back(new Array(reader));
    if (has_data) reader.bytes(found.back()->buffer.data, found.back()->num_bytes);
  }
  return found;
}

struct Attribute {
  std::string name, data;
  XLA_FFI_AttrType type;
  XLA_FFI_ByteSpan name_span, text;
  XLA_FFI_Array array;
  XLA_FFI_Scalar scalar;
  explicit Attribute(Reader& reader) {
    name.resize(reader.number());
    reader.bytes(name.data(), name.size());
    type = static_cast<XLA_FFI_AttrType>(reader.number());
    const auto dtype = static_cast<XLA_FFI_DataType>(reader.number());
    const size_t count = reader.number();
    data.resize(reader.number());
    reader.bytes(data.data(), data.size());
    name_span = {name.data(), name.size()};
    text = {data.data(), data.size()};
    array = {dtype, count, data.data()};
    scalar = {dtype, data.data()};
  }
  void* value() {
    if (type == XLA_FFI_AttrType_STRING) return &text;
    return type == XLA_FFI_AttrType_ARRAY ? static_cast<void*>(&array) : &scalar;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) fail("too few arguments");
  const auto handler = find<XLA_FFI_Error* (*)(XLA_FFI_CallFrame*)>(argv[1], argv[2]);
  for (int i = 5; i + 1 < argc; i += 2) {
    const auto add = find<void (*)(const char*, void*)>(argv[1], "add_polynomial");
    add(argv[i + 1], find<void*>(argv[i], argv[i + 1]));
  }
  Reader reader(argv[3]);
  const auto in = arrays(reader, true), out = arrays(reader, false);
  std::vector<void*> in_buffers, out_buffers, values;
  for (Array* array : in) in_buffers.push_back(&array->buffer);
  for (Array* array : out) out_buffers.push_back(&array->buffer);
  std::vector<XLA_FFI_ArgType> in_types(in.size(), XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> out_types(out.size(), XLA_FFI_RetType_BUFFER);
  std::vector<XLA_FFI_AttrType> types;
  std::vector<XLA_FFI_ByteSpan*> names;
  for (int64_t count = reader.number(); count > 0; --count) {
    auto* attribute = new Attribute(reader);
    types.push_back(attribute->type);
    names.push_back(&attribute->name_span);
    values.push_back(attribute->value());
  }
  XLA_FFI_Api api = {};
  api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  api.api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  api.XLA_FFI_Error_Create = create_error;
  api.XLA_FFI_ThreadPool_NumThreads = num_threads;
  api.XLA_FFI_ThreadPool_Schedule = schedule;
  XLA_FFI_CallFrame frame = {XLA_FFI_CallFrame_STRUCT_SIZE, nullptr, &api, nullptr, XLA_FFI_ExecutionStage_EXECUTE};
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, static_cast<int64_t>(in.size()), in_types.data(), in_buffers.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, static_cast<int64_t>(out.size()), out_types.data(), out_buffers.data()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, static_cast<int64_t>(values.size()), types.data(), names.data(), values.data()};
  if (handler(&frame)) fail("the handler returns an error");
  FILE* results = std::fopen(argv[4], "wb");
  for (Array* array : out) std::fwrite(array->buffer.data, 1, array->num_bytes, results);
  return std::fclose(results);
}
