// SPDX-License-Identifier: Apache-2.0
//
// One client's session: a process with a group and a temporary folder of its own. Both are gone
// with this object, whatever the session did.

#pragma once

#include <sys/types.h>

#include "net.h"

class Session {
  public:
    explicit Session(Descriptor client) : client_(std::move(client)) {}
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;
    ~Session();

    // As fork(2): 0 in the session's process, -1 with the reason in errno.
    pid_t start();
    // In the session's process: serve the client. Without `prints` what it prints is dropped.
    [[noreturn]] void become(bool prints);
    // In the server: wait until the session or its client is gone; false: its time is over.
    bool wait(Deadline deadline);

    const char *folder() const { return folder_.c_str(); }

  private:
    Descriptor client_;
    Text folder_;
    bool has_folder_ = false;
    pid_t process_ = 0;
    // Ends of a pipe: the first tells when the session ends, which holds the other.
    Descriptor ended_, running_;
};
