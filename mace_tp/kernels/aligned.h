// Arrays that start at a cache line, so that no vector crosses one.

#pragma once

#include <cstddef>
#include <new>
#include <vector>

template <typename T>
struct CacheLineAllocator {
  typedef T value_type;
  CacheLineAllocator() = default;
  template <typename U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* data, std::size_t) { ::operator delete(data, std::align_val_t(64)); }
  bool operator==(const CacheLineAllocator&) const { return true; }
  bool operator!=(const CacheLineAllocator&) const { return false; }
};

template <typename T>
using Aligned = std::vector<T, CacheLineAllocator<T>>;
