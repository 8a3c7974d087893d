// SPDX-License-Identifier: Apache-2.0

#include "net.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <ctime>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace {

constexpr int BACKLOG = 16;
constexpr std::array<int, 2> STOP_SIGNALS = {SIGINT, SIGTERM};

volatile std::sig_atomic_t received_signal = 0;

void remember_signal(int number) { received_signal = number; }

sigset_t stop_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int number : STOP_SIGNALS)
        sigaddset(&set, number);
    return set;
}

bool handle_stop_signals(void (*handler)(int), int block_or_unblock) {
    struct sigaction action = {};
    action.sa_handler = handler;
    for (int number : STOP_SIGNALS)
        if (sigaction(number, &action, nullptr))
            return false;
    const sigset_t set = stop_signals();
    return !sigprocmask(block_or_unblock, &set, nullptr);
}

double now() {
    timespec time;
    // Fails for unknown clocks only.
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

bool wait_for(const Descriptor &file, short events, Deadline deadline) {
    pollfd polled = {file.number(), events, 0};
    return wait_for(&polled, 1, deadline);
}

// Send messages as they come: most are small, and the other side waits for them.
bool send_at_once(const Descriptor &socket) {
    const int yes = 1;
    return !setsockopt(socket.number(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

// Addresses of a name, freed with their owner.
class Resolved {
  public:
    Resolved(const char *host, int port, int flags) {
        addrinfo hints = {};
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_flags = flags | AI_NUMERICSERV;
        Text service;
        if (!service.format("%d", port) ||
            getaddrinfo(host, service.c_str(), &hints, &first_) != 0) {
            first_ = nullptr;
            errno = ENXIO;
        }
    }
    Resolved(const Resolved &) = delete;
    Resolved &operator=(const Resolved &) = delete;
    ~Resolved() {
        if (first_)
            freeaddrinfo(first_);
    }
    const addrinfo *first() const { return first_; }

  private:
    addrinfo *first_ = nullptr;
};

bool connect_once(const Descriptor &socket, const addrinfo &to, Deadline deadline) {
    if (!connect(socket.number(), to.ai_addr, to.ai_addrlen))
        return true;
    if (errno != EINPROGRESS || !wait_for(socket, POLLOUT, deadline))
        return false;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &error, &size))
        return false;
    errno = error;
    return error == 0;
}

} // namespace

Deadline Deadline::in(double seconds) { return {now() + seconds}; }

bool catch_stop_signals() { return handle_stop_signals(remember_signal, SIG_BLOCK); }

bool release_stop_signals() { return handle_stop_signals(SIG_DFL, SIG_UNBLOCK); }

int stop_signal() { return received_signal; }

bool wait_for(pollfd *files, nfds_t count, Deadline deadline) {
    // Signals arrive here and nowhere else, so that none comes between a look and a wait.
    sigset_t mask;
    if (sigprocmask(SIG_BLOCK, nullptr, &mask))
        return false;
    for (int number : STOP_SIGNALS)
        sigdelset(&mask, number);
    while (!stop_signal()) {
        const double seconds = std::max(0.0, deadline.at - now());
        timespec time = {};
        if (std::isfinite(seconds)) {
            // Nobody waits any longer, and whole numbers have an end.
            time.tv_sec = static_cast<std::time_t>(std::min(seconds, 1e9));
            const double rest = seconds - static_cast<double>(time.tv_sec);
            time.tv_nsec = static_cast<long>(1e9 * std::min(rest, 0.999999999));
        }
        const int ready = ppoll(files, count, std::isfinite(seconds) ? &time : nullptr, &mask);
        if (ready > 0)
            return true;
        if (ready == 0) {
            errno = ETIMEDOUT;
            return false;
        }
        if (errno != EINTR)
            return false;
    }
    errno = EINTR;
    return false;
}

Descriptor connect_to(const Address &address, Deadline deadline) {
    const Resolved addresses(address.host.c_str(), address.port, 0);
    for (const addrinfo *to = addresses.first(); to; to = to->ai_next) {
        Descriptor made(
            socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol));
        if (made && send_at_once(made) && connect_once(made, *to, deadline))
            return made;
    }
    return Descriptor();
}

Descriptor listen_at(const char *host, int first, int last, int &port) {
    for (port = first; port <= last; port++) {
        const Resolved addresses(host, port, AI_PASSIVE);
        const addrinfo *at = addresses.first();
        if (!at)
            return Descriptor();
        Descriptor made(socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
        const int yes = 1;
        if (!made || setsockopt(made.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes))
            return Descriptor();
        if (!bind(made.number(), at->ai_addr, at->ai_addrlen) && !listen(made.number(), BACKLOG))
            return made;
        if (errno != EADDRINUSE)
            return Descriptor();
    }
    return Descriptor();
}

Descriptor accept_from(const Descriptor &listener, Text &peer) {
    sockaddr_storage from = {};
    socklen_t size = sizeof from;
    auto *address = reinterpret_cast<sockaddr *>(&from);
    Descriptor client(accept4(listener.number(), address, &size, SOCK_CLOEXEC));
    std::array<char, NI_MAXHOST> name;
    if (!client || !send_at_once(client) ||
        getnameinfo(address, size, name.data(), name.size(), nullptr, 0, NI_NUMERICHOST) ||
        !peer.format("%s", name.data()))
        return Descriptor();
    return client;
}

bool send_all(const Descriptor &socket, const void *data, std::size_t size, Deadline deadline) {
    const char *next = static_cast<const char *>(data);
    while (size > 0) {
        const ssize_t sent = send(socket.number(), next, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            next += sent;
            size -= static_cast<std::size_t>(sent);
        } else if (errno != EAGAIN || !wait_for(socket, POLLOUT, deadline)) {
            return false;
        }
    }
    return true;
}

bool receive_all(const Descriptor &socket, void *data, std::size_t size, Deadline deadline) {
    char *next = static_cast<char *>(data);
    while (size > 0) {
        const ssize_t received = recv(socket.number(), next, size, MSG_DONTWAIT);
        if (received > 0) {
            next += received;
            size -= static_cast<std::size_t>(received);
        } else if (received == 0) {
            errno = ECONNRESET;
            return false;
        } else if (errno != EAGAIN || !wait_for(socket, POLLIN, deadline)) {
            return false;
        }
    }
    return true;
}
