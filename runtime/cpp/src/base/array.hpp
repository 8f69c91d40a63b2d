// Arrays in C order, the inputs and outputs of graphs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace alterbute {

enum class DType { uint8, uint16, int64, float32 };

using Shape = std::vector<std::int64_t>;

template <typename Number>
constexpr DType dtype_of() {
  switch (sizeof(Number)) {
    case 1:
      return DType::uint8;
    case 2:
      return DType::uint16;
    case 8:
      return DType::int64;
    default:
      return DType::float32;
  }
}

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::uint8:
      return 1;
    case DType::uint16:
      return 2;
    case DType::int64:
      return 8;
    default:
      return 4;
  }
}

// How many numbers; throws std::bad_alloc where no memory could hold them.
std::size_t count_of(const Shape& shape);

// A view of memory that is owned elsewhere.
struct ArrayView {
  DType dtype = DType::float32;
  Shape shape;
  void* data = nullptr;

  std::size_t bytes() const { return count_of(shape) * size_of(dtype); }
};

// An array that owns its memory, zeros at first.
class Array {
 public:
  Array() = default;
  Array(DType dtype, Shape shape)
      : dtype_(dtype), shape_(std::move(shape)), bytes_(count_of(shape_) * size_of(dtype_)) {}

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::size_t count() const { return bytes_.size() / size_of(dtype_); }
  std::size_t bytes() const { return bytes_.size(); }
  void reshape(Shape shape) { shape_ = std::move(shape); }

  template <typename Number>
  Number* as() {
    return reinterpret_cast<Number*>(bytes_.data());
  }
  template <typename Number>
  const Number* as() const {
    return reinterpret_cast<const Number*>(bytes_.data());
  }

  // A view of the first `length` entries of the first axis.
  ArrayView head(std::int64_t length) const {
    Shape shape = shape_;
    shape[0] = length;
    return {dtype_, std::move(shape), const_cast<unsigned char*>(bytes_.data())};
  }
  ArrayView view() const { return {dtype_, shape_, const_cast<unsigned char*>(bytes_.data())}; }

 private:
  DType dtype_ = DType::float32;
  Shape shape_;
  std::vector<unsigned char> bytes_;  // from operator new, so aligned for every type here
};

template <typename Number>
Array make_array(Shape shape) {
  return {dtype_of<Number>(), std::move(shape)};
}

using Arrays = std::map<std::string, Array>;
using ArrayViews = std::map<std::string, ArrayView>;

}  // namespace alterbute
