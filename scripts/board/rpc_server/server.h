// SPDX-License-Identifier: Apache-2.0
//
// A board's end of TVM RPC, one session at a time, that outlives whatever a session does.

#pragma once

#include "net.h"
#include "tracker.h"

struct Options {
    Address tracker;
    const char *key = nullptr;
    const char *host = "0.0.0.0";
    int port = 9091, port_end = 9199;
    bool verbose = false;
};

// A line on standard error, behind the program's name.
[[gnu::format(printf, 1, 2)]] void notice(const char *pattern, ...);

class Server {
  public:
    Server(const Options &options, Descriptor listener, const Text &reported_host, int port)
        : options_(options), listener_(std::move(listener)),
          tracker_(options.key, reported_host, port) {}

    // Serve until a signal asks this program to end.
    void serve();

  private:
    struct Client {
        Descriptor socket;
        double seconds = 0;
    };
    bool next_client(Client &client);
    bool hello(const char *secret, Client &client);
    const char *recognise(const char *secret, Client &client);
    bool welcome(const Client &client);
    void run_session(Client client);
    void lose_tracker();

    const Options &options_;
    Descriptor listener_;
    Tracker tracker_;
    bool told_of_loss_ = false;
};
