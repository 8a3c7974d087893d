// SPDX-License-Identifier: Apache-2.0
//
// Talking to a TVM RPC tracker, which knows the boards and hands them out in turn. Its messages are
// JSON behind a length; every answer has a time limit. What fails leaves the reason in errno.

#pragma once

#include "net.h"

class Tracker {
  public:
    // `host`, as JSON, is where clients find this board; null: at the address that the tracker
    // sees.
    Tracker(const char *key, const Text &host, int port) : key_(key), host_(host), port_(port) {}

    bool connect(const Address &address);
    bool is_connected() const { return static_cast<bool>(socket_); }
    void disconnect() { socket_.close(); }

    // Offer this board; the client that gets it knows the match key, "<key>:<secret>".
    bool offer(const char *secret);
    // Whether nobody has been given it yet.
    bool is_pending(const char *secret, bool &pending);

  private:
    bool ask(const Text &question);
    bool ask_for_success(const Text &question);

    const char *key_;
    Text host_;
    int port_;
    Descriptor socket_;
    Text answer_;
};
