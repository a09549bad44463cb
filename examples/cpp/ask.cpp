// Asks a policy server for actions: one observation a line on standard input, one action a line on standard output.
//
//     ask tcp://127.0.0.1:5760 [--deadline-ms 50] < observations.txt
//     ask tcp://192.168.1.10:5760 --key ~/.config/robot-rl/keys/own/cell1.key
//         --server ~/.config/robot-rl/keys/allowed/server.pub < observations.txt
//     ask tcp://127.0.0.1:5760 --contract
//
// Exit status 0; 1 if an action did not come; 2 if there is no server or an option is wrong.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "policy_client.hpp"

namespace {

struct Options {
  std::string address, key_file, server_file;
  double deadline_ms = 100.0;
  bool contract = false;
};

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&] {
      if (++i == count) throw std::invalid_argument(word + " needs a value");
      return std::string(words[i]);
    };
    if (word == "--deadline-ms") options.deadline_ms = std::stod(value());
    else if (word == "--key") options.key_file = value();
    else if (word == "--server") options.server_file = value();
    else if (word == "--contract") options.contract = true;
    else if (options.address.empty() && word.rfind("--", 0) != 0) options.address = word;
    else throw std::invalid_argument("what is " + word + "?");
  }
  if (options.address.empty()) throw std::invalid_argument("give the server's address, tcp://HOST:PORT");
  if (options.key_file.empty() != options.server_file.empty())
    throw std::invalid_argument("--key and --server belong together: own key file and the server's public key file");
  return options;
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::invalid_argument("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A key file is {"public": KEY, "secret": KEY}; keys are 40 characters, none of them a quote.
std::string key_of(const std::string& json, const std::string& name, const std::string& path) {
  const std::string before = "\"" + name + "\":\"";
  const auto at = json.find(before);
  if (at == std::string::npos) throw std::invalid_argument(path + " is no key file of `robot-rl keys new`");
  return json.substr(at + before.size(), 40);
}

std::optional<robot_rl::Keys> keys(const Options& options) {
  if (options.key_file.empty()) return std::nullopt;
  const std::string own = content(options.key_file);
  return robot_rl::Keys{key_of(own, "public", options.key_file), key_of(own, "secret", options.key_file),
                        content(options.server_file).substr(0, 40)};
}

float number_of(const std::string& word) {
  char* end = nullptr;
  const float value = std::strtof(word.c_str(), &end);
  if (*end != '\0') throw std::invalid_argument("'" + word + "' is no number");
  return value;
}

// Prints actions; returns how many did not come.
int act(robot_rl::PolicyClient& policy, robot_rl::PolicyClient::Duration deadline) {
  std::vector<double> latencies_us;
  int missing = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream numbers(line);
    std::vector<float> obs;
    for (std::string word; numbers >> word;) obs.push_back(number_of(word));
    const auto start = std::chrono::steady_clock::now();
    try {
      const std::vector<float> action = policy.act(obs, deadline);
      const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
      latencies_us.push_back(spent.count());
      for (const float number : action) std::printf("%.9g ", static_cast<double>(number));
      std::printf("# %.0f us\n", spent.count());
    } catch (const robot_rl::PolicyError& error) {
      ++missing;
      std::printf("# hold: %s\n", error.what());
    }
    std::fflush(stdout);
  }
  if (!latencies_us.empty()) {
    std::sort(latencies_us.begin(), latencies_us.end());
    std::fprintf(stderr, "%zu actions, latency p50 %.0f us, longest %.0f us\n", latencies_us.size(),
                 latencies_us[latencies_us.size() / 2], latencies_us.back());
  }
  return missing;
}

}  // namespace

int main(int count, char** words) {
  try {
    const Options options = parse(count, words);
    robot_rl::PolicyClient policy(options.address, keys(options));
    if (options.contract) {
      std::printf("%s\n", policy.contract().c_str());
      return 0;
    }
    const std::chrono::duration<double, std::milli> deadline(options.deadline_ms);
    return act(policy, std::chrono::duration_cast<robot_rl::PolicyClient::Duration>(deadline)) ? 1 : 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ask: %s\n", error.what());
    return 2;
  }
}
