// SPDX-License-Identifier: Apache-2.0
//
// Sockets on which nobody waits for ever: every wait has a deadline, and ends when this program is
// asked to. What fails is false, or an empty Descriptor, and leaves the reason in errno.

#pragma once

#include <cstddef>
#include <poll.h>
#include <unistd.h>
#include <utility>

#include "text.h"

// An open file that is closed with its owner.
class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor &&other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor &operator=(Descriptor &&other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() { close(); }

    void close() {
        // Linux closes whatever it answers.
        if (number_ >= 0)
            ::close(std::exchange(number_, -1));
    }
    int number() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }

  private:
    int number_;
};

// A time on the monotonic clock, in seconds; may be infinite.
struct Deadline {
    double at;
    static Deadline in(double seconds);
};

// Let SIGINT and SIGTERM end waits, and nothing else.
bool catch_stop_signals();
// For a process that was forked: they end it, as they usually do.
bool release_stop_signals();
// The signal that asked this program to stop, or 0.
int stop_signal();

// Wait until something happens to one of the files; false with ETIMEDOUT if nothing does, with
// EINTR if the program is to stop.
bool wait_for(pollfd *files, nfds_t count, Deadline deadline);

struct Address {
    Text host;
    int port = 0;
};

Descriptor connect_to(const Address &address, Deadline deadline);
// Listen at the first free one of these ports; `port` tells which. EADDRINUSE: all are taken.
Descriptor listen_at(const char *host, int first, int last, int &port);
// Who knocked, and from where.
Descriptor accept_from(const Descriptor &listener, Text &peer);

bool send_all(const Descriptor &socket, const void *data, std::size_t size, Deadline deadline);
bool receive_all(const Descriptor &socket, void *data, std::size_t size, Deadline deadline);
