// As much MessagePack as requests need to be written and answers to be read: maps from names to integers, strings
// and bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace robot_rl::msgpack {

// Big-endian, as MessagePack has it.
inline void put_number(std::string& out, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
}

inline void put_map(std::string& out, unsigned entries) {  // below 16
  out.push_back(static_cast<char>(0x80 | entries));
}

inline void put_key(std::string& out, const std::string& key) {  // shorter than 32
  out.push_back(static_cast<char>(0xa0 | key.size()));
  out += key;
}

inline void put_uint(std::string& out, std::uint64_t value) {
  out.push_back(static_cast<char>(0xcf));
  put_number(out, value, 8);
}

inline void put_bytes(std::string& out, const void* data, std::size_t size) {
  out.push_back(static_cast<char>(0xc6));
  put_number(out, size, 4);
  out.append(static_cast<const char*>(data), size);
}

// Reads from front to back; throws std::runtime_error where the bytes end too soon or are of another type.
class Reader {
 public:
  Reader(const char* data, std::size_t size) : at_(data), left_(size) {}

  std::size_t map() {
    const unsigned head = byte();
    if ((head & 0xf0) == 0x80) return head & 0x0f;
    if (head == 0xde) return number(2);
    throw std::runtime_error("the answer is no map");
  }

  bool at_integer() const {
    const unsigned head = peek();
    return head < 0x80 || head >= 0xe0 || (head >= 0xcc && head <= 0xd3);
  }

  std::int64_t integer() {
    const unsigned head = byte();
    if (head < 0x80) return head;
    if (head >= 0xe0) return static_cast<std::int8_t>(head);
    if (head >= 0xcc && head <= 0xcf) return static_cast<std::int64_t>(number(1 << (head - 0xcc)));
    switch (head) {
      case 0xd0: return static_cast<std::int8_t>(number(1));
      case 0xd1: return static_cast<std::int16_t>(number(2));
      case 0xd2: return static_cast<std::int32_t>(number(4));
      case 0xd3: return static_cast<std::int64_t>(number(8));
      default: throw std::runtime_error("an integer is missing in the answer");
    }
  }

  std::string text() {  // a string, or bytes
    const unsigned head = byte();
    if ((head & 0xe0) == 0xa0) return take(head & 0x1f);
    switch (head) {
      case 0xc4:
      case 0xd9: return take(number(1));
      case 0xc5:
      case 0xda: return take(number(2));
      case 0xc6:
      case 0xdb: return take(number(4));
      default: throw std::runtime_error("a string is missing in the answer");
    }
  }

 private:
  unsigned peek() const {
    if (left_ == 0) throw std::runtime_error("the answer ends too soon");
    return static_cast<unsigned char>(*at_);
  }

  unsigned byte() {
    const unsigned value = peek();
    ++at_, --left_;
    return value;
  }

  std::uint64_t number(int bytes) {
    std::uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value = value << 8 | byte();
    return value;
  }

  std::string take(std::size_t size) {
    if (size > left_) throw std::runtime_error("the answer ends too soon");
    std::string found(at_, size);
    at_ += size, left_ -= size;
    return found;
  }

  const char* at_;
  std::size_t left_;
};

}  // namespace robot_rl::msgpack
