// SPDX-License-Identifier: Apache-2.0

#include "server.h"

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>

#include "session.h"

namespace {

// How often an idle server looks after its tracker, or tries to reach it.
constexpr double PERIOD_SECONDS = 1.0;
// Periods after which a board that was given away, but has no client yet, is offered again.
constexpr int PATIENCE = 8;
// A client says hello at once.
constexpr double HELLO_SECONDS = 5.0;
constexpr std::int32_t LONGEST_HELLO = 1024;

// Of tvm.rpc.base.
constexpr std::int32_t RPC_MAGIC = 0xff271, RPC_MISMATCH = RPC_MAGIC + 2;
constexpr std::string_view TIMEOUT_OPTION = "-timeout=";

bool make_secret(Text &secret) {
    const Descriptor random(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    std::uint64_t number;
    return random && read(random.number(), &number, sizeof number) == sizeof number &&
           secret.format("%016llx", static_cast<unsigned long long>(number));
}

// Cut the first word off.
std::string_view next_word(std::string_view &text) {
    constexpr std::string_view SPACES = " \t\r\n";
    text.remove_prefix(std::min(text.find_first_not_of(SPACES), text.size()));
    const std::string_view word = text.substr(0, text.find_first_of(SPACES));
    text.remove_prefix(word.size());
    return word;
}

// The seconds that a client asks for among the words behind its name; without any: for ever.
bool parse_time_limit(std::string_view words, double &seconds) {
    seconds = INFINITY;
    while (!words.empty()) {
        const std::string_view word = next_word(words);
        if (word.substr(0, TIMEOUT_OPTION.size()) != TIMEOUT_OPTION)
            continue;
        // The text goes on with a space or its final zero, where strtod stops.
        char *end;
        seconds = std::strtod(word.data() + TIMEOUT_OPTION.size(), &end);
        return end == word.data() + word.size() && seconds >= 0;
    }
    return true;
}

bool send_number(const Descriptor &socket, std::int32_t number, Deadline deadline) {
    return send_all(socket, &number, sizeof number, deadline);
}

} // namespace

void notice(const char *pattern, ...) {
    Text line;
    std::va_list arguments;
    va_start(arguments, pattern);
    // A longer line is cut off, and there is nobody to tell if standard error is gone.
    (void)line.format_list(pattern, arguments);
    va_end(arguments);
    (void)std::fprintf(stderr, "leanconv-rpc-server: %s\n", line.c_str());
}

void Server::serve() {
    while (!stop_signal()) {
        Client client;
        if (next_client(client))
            run_session(std::move(client));
        else if (errno && !stop_signal())
            lose_tracker();
    }
}

// The client that the tracker sent here. False without a reason in errno: it never came.
bool Server::next_client(Client &client) {
    if (!tracker_.is_connected()) {
        if (!tracker_.connect(options_.tracker))
            return false;
        told_of_loss_ = false;
        notice("registered with tracker %s:%d", options_.tracker.host.c_str(),
               options_.tracker.port);
    }
    Text secret;
    if (!make_secret(secret) || !tracker_.offer(secret.c_str()))
        return false;
    int absent = 0;
    while (absent < PATIENCE) {
        pollfd file = {listener_.number(), POLLIN, 0};
        if (wait_for(&file, 1, Deadline::in(PERIOD_SECONDS))) {
            if (hello(secret.c_str(), client))
                return true;
            continue;
        }
        bool pending;
        if (errno != ETIMEDOUT || !tracker_.is_pending(secret.c_str(), pending))
            return false;
        absent = pending ? 0 : absent + 1;
    }
    errno = 0;
    return false;
}

// Whether it is the client that was sent here who knocked.
bool Server::hello(const char *secret, Client &client) {
    Text peer;
    client.socket = accept_from(listener_, peer);
    if (!client.socket)
        return false;
    const char *problem = recognise(secret, client);
    if (problem) {
        client.socket.close();
        if (options_.verbose)
            notice("turned away %s: %s", peer.c_str(), problem);
    }
    return !problem;
}

// Why it is not; nullptr: it is.
const char *Server::recognise(const char *secret, Client &client) {
    const Deadline deadline = Deadline::in(HELLO_SECONDS);
    std::int32_t header[2];
    if (!receive_all(client.socket, header, sizeof header, deadline))
        return std::strerror(errno);
    if (header[0] != RPC_MAGIC || header[1] <= 0 || header[1] > LONGEST_HELLO)
        return "no RPC client";
    Text greeting, name;
    if (!greeting.resize(static_cast<std::size_t>(header[1])) ||
        !receive_all(client.socket, greeting.data(), greeting.view().size(), deadline) ||
        !name.format("client:%s:%s", options_.key, secret))
        return std::strerror(errno);
    std::string_view words = greeting.view();
    if (next_word(words) != name.view()) {
        // It is turned away whether it hears of it or not.
        (void)send_number(client.socket, RPC_MISMATCH, deadline);
        return "its key is not the expected one";
    }
    return parse_time_limit(words, client.seconds) ? nullptr : "its time limit is no number";
}

bool Server::welcome(const Client &client) {
    const Deadline deadline = Deadline::in(HELLO_SECONDS);
    Text name;
    if (!name.format("server:%s", options_.key))
        return false;
    const std::string_view text = name.view();
    return send_number(client.socket, RPC_MAGIC, deadline) &&
           send_number(client.socket, static_cast<std::int32_t>(text.size()), deadline) &&
           send_all(client.socket, text.data(), text.size(), deadline);
}

void Server::run_session(Client client) {
    if (!welcome(client)) {
        if (options_.verbose)
            notice("the client is gone: %s", std::strerror(errno));
        return;
    }
    Session session(std::move(client.socket));
    const pid_t process = session.start();
    if (process == 0) {
        // Others must notice when the server dies, or be able to take its port.
        listener_.close();
        tracker_.disconnect();
        session.become(options_.verbose);
    }
    if (process < 0) {
        notice("a session could not be started: %s", std::strerror(errno));
        return;
    }
    if (options_.verbose)
        notice("session in %s", session.folder());
    const bool in_time = session.wait(Deadline::in(client.seconds));
    if (options_.verbose && in_time)
        notice("session ended");
    else if (options_.verbose)
        notice("session exceeded its %g s", client.seconds);
}

void Server::lose_tracker() {
    if (!told_of_loss_)
        notice("tracker %s:%d does not answer (%s); trying again until it does",
               options_.tracker.host.c_str(), options_.tracker.port, std::strerror(errno));
    told_of_loss_ = true;
    tracker_.disconnect();
    // Nothing but the time, or a signal, ends this.
    (void)wait_for(nullptr, 0, Deadline::in(PERIOD_SECONDS));
}
