// A client of `robot-rl serve --listen`, wire version 2 (docs/policy_server.md). Needs libzmq, nothing else.
// Not thread-safe: one client a thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "msgpack.hpp"
#include "zmq_abi.h"

namespace robot_rl {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire's floats are little-endian: swap them here");

// No action came: late, refused, or nobody there. The arm has to hold.
class PolicyError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// CURVE keys, 40 characters of Z85 each. Beyond loopback the server asks for them.
struct Keys {
  std::string own_public, own_secret, server_public;
};

class PolicyClient {
 public:
  using Duration = std::chrono::nanoseconds;

  // Connects and fetches the contract; throws PolicyError when nobody answers within `patience`.
  explicit PolicyClient(const std::string& address, const std::optional<Keys>& keys = std::nullopt,
                        Duration patience = std::chrono::seconds(5))
      : address_(address), context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    try {
      set(ZMQ_LINGER, 0);
      set(ZMQ_IMMEDIATE, 1);  // without a connection nothing is queued: it would arrive too late
      set(ZMQ_HANDSHAKE_IVL, 5000);
      if (keys) {
        set(ZMQ_CURVE_PUBLICKEY, keys->own_public);
        set(ZMQ_CURVE_SECRETKEY, keys->own_secret);
        set(ZMQ_CURVE_SERVERKEY, keys->server_public);
      }
      require(zmq_connect(socket_, address.c_str()), "connect");
      const Answer answer = ask(nullptr, 0, patience);
      contract_ = answer.contract;
      session_ = answer.session;
    } catch (...) {
      close();
      throw;
    }
  }

  ~PolicyClient() { close(); }
  PolicyClient(const PolicyClient&) = delete;
  PolicyClient& operator=(const PolicyClient&) = delete;

  // JSON: names, order, units, bounds and rate of every number.
  const std::string& contract() const { return contract_; }

  // Executable action for a raw observation, both in the units of the contract; throws PolicyError if it is not
  // there `deadline` from now.
  std::vector<float> act(const std::vector<float>& obs, Duration deadline) {
    const std::string bytes = ask(obs.data(), obs.size() * sizeof(float), deadline).action;
    std::vector<float> action(bytes.size() / sizeof(float));
    std::memcpy(action.data(), bytes.data(), action.size() * sizeof(float));
    return action;
  }

 private:
  struct Answer {
    std::int64_t v = 0, id = 0, session = 0, clock_ns = 0;
    std::string action, contract, error, code;
  };

  static std::int64_t now_ns() {
    return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  Answer ask(const void* obs, std::size_t size, Duration patience) {
    const std::int64_t end_ns = now_ns() + patience.count();
    const std::int64_t id = ++count_;
    send(request(id, obs, size, end_ns + ahead_ns_), end_ns);
    Answer answer;
    do {
      answer = receive(end_ns);
    } while (answer.id != id && answer.id != 0);  // others answer what was given up
    const std::int64_t came_ns = now_ns();
    ahead_ns_ = answer.clock_ns - came_ns;
    if (came_ns > end_ns) throw silence();  // polls are as coarse as a millisecond
    if (!answer.error.empty()) throw PolicyError(address_ + " refused (" + answer.code + "): " + answer.error);
    if (session_ != 0 && answer.session != session_)
      throw PolicyError(address_ + " was started anew and may serve another policy: connect again");
    return answer;
  }

  // `due_ns` is by the server's clock, which was read when it last answered: early by the time that its answer took
  // to come here, so that what it sends before then arrives in time.
  static std::string request(std::int64_t id, const void* obs, std::size_t size, std::int64_t due_ns) {
    std::string out;
    msgpack::put_map(out, size ? 4 : 2);
    msgpack::put_key(out, "v");
    msgpack::put_uint(out, 2);
    msgpack::put_key(out, "id");
    msgpack::put_uint(out, static_cast<std::uint64_t>(id));
    if (size) {
      msgpack::put_key(out, "obs");
      msgpack::put_bytes(out, obs, size);
      msgpack::put_key(out, "due_ns");
      msgpack::put_uint(out, static_cast<std::uint64_t>(due_ns));
    }
    return out;
  }

  void send(const std::string& content, std::int64_t end_ns) {
    while (zmq_send(socket_, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) wait(ZMQ_POLLOUT, end_ns);
    require(zmq_send(socket_, content.data(), content.size(), 0), "send");
  }

  Answer receive(std::int64_t end_ns) {
    wait(ZMQ_POLLIN, end_ns);
    int more = 1, size = 0;
    while (more) {  // the content is the last frame
      size = require(zmq_recv(socket_, buffer_.data(), buffer_.size(), 0), "receive");
      std::size_t length = sizeof(more);
      require(zmq_getsockopt(socket_, ZMQ_RCVMORE, &more, &length), "receive");
    }
    if (static_cast<std::size_t>(size) > buffer_.size()) throw PolicyError(address_ + ": the answer is too long");
    try {
      return decoded(msgpack::Reader(buffer_.data(), static_cast<std::size_t>(size)));
    } catch (const PolicyError&) {
      throw;
    } catch (const std::runtime_error& error) {
      throw PolicyError(address_ + " answered something else: " + error.what());
    }
  }

  static Answer decoded(msgpack::Reader reader) {
    Answer answer;
    for (std::size_t left = reader.map(); left > 0; --left) {
      const std::string key = reader.text();
      if (reader.at_integer()) {
        const std::int64_t value = reader.integer();
        if (key == "v") answer.v = value;
        if (key == "id") answer.id = value;
        if (key == "session") answer.session = value;
        if (key == "clock_ns") answer.clock_ns = value;
      } else {
        std::string value = reader.text();
        if (key == "action") answer.action = std::move(value);
        else if (key == "contract") answer.contract = std::move(value);
        else if (key == "error") answer.error = std::move(value);
        else if (key == "code") answer.code = std::move(value);
      }
    }
    return answer;
  }

  void wait(short event, std::int64_t end_ns) {
    const std::int64_t left_ns = end_ns - now_ns();
    zmq_pollitem_t item{socket_, 0, event, 0};
    if (left_ns <= 0 || require(zmq_poll(&item, 1, static_cast<long>((left_ns + 999'999) / 1'000'000)), "wait") == 0)
      throw silence();
  }

  PolicyError silence() const {
    return PolicyError(address_ + " did not answer in time. Is it running, and have both ends the other's key?");
  }

  void set(int option, int value) { require(zmq_setsockopt(socket_, option, &value, sizeof(value)), "set an option"); }
  void set(int option, const std::string& key) {
    require(zmq_setsockopt(socket_, option, key.c_str(), key.size() + 1), "take a key");
  }

  int require(int result, const char* what) const {
    if (result < 0) throw PolicyError(address_ + ": cannot " + what + ": " + zmq_strerror(zmq_errno()));
    return result;
  }

  void close() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }

  std::string address_, contract_;
  void* context_;
  void* socket_;
  std::int64_t count_ = 0, session_ = 0, ahead_ns_ = 0;  // ahead: the server's clock minus ours, at most
  std::vector<char> buffer_ = std::vector<char>(1 << 20);
};

}  // namespace robot_rl
