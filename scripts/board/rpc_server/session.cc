// SPDX-License-Identifier: Apache-2.0

#include "session.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <ftw.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tvm_loop.h"

namespace {

constexpr int OPEN_FOLDERS = 16;

int remove_entry(const char *path, const struct stat *, int, FTW *) {
    // What cannot be removed, for example in a folder without permissions, stays.
    (void)std::remove(path);
    return 0;
}

// Kill a process with all of its group, and wait for it.
void kill_group(pid_t leader) {
    // It may not lead a group yet, or be gone already: neither is an error.
    (void)kill(leader, SIGKILL);
    (void)kill(-leader, SIGKILL);
    while (waitpid(leader, nullptr, 0) < 0 && errno == EINTR) {
    }
}

bool drop_output() {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return nowhere >= 0 && dup2(nowhere, STDOUT_FILENO) >= 0 && dup2(nowhere, STDERR_FILENO) >= 0;
}

} // namespace

Session::~Session() {
    if (process_ > 0)
        kill_group(process_);
    if (has_folder_)
        (void)nftw(folder(), remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

pid_t Session::start() {
    const char *chosen = std::getenv("TMPDIR");
    // Absolute, since the session works in it.
    std::array<char, PATH_MAX> parent;
    if (!realpath(chosen && *chosen ? chosen : "/tmp", parent.data()) ||
        !folder_.format("%s/rpc_session_XXXXXX", parent.data()) || !mkdtemp(folder_.data()))
        return -1;
    has_folder_ = true;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    ended_ = Descriptor(ends[0]);
    running_ = Descriptor(ends[1]);
    const pid_t server = getpid();
    process_ = fork();
    if (process_ > 0)
        running_.close();
    if (process_ != 0)
        return process_;
    // The session ends with its server, which may have ended before this took effect.
    if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != server ||
        !release_stop_signals())
        _exit(EXIT_FAILURE);
    return 0;
}

void Session::become(bool prints) {
    // Nothing here may return: the server's objects are copied into this process.
    const bool ready = (prints || drop_output()) && !chdir(folder());
    _exit(ready && serve_tvm(client_.number(), folder()) ? EXIT_SUCCESS : EXIT_FAILURE);
}

bool Session::wait(Deadline deadline) {
    pollfd files[] = {{ended_.number(), POLLIN, 0}, {client_.number(), POLLRDHUP, 0}};
    return wait_for(files, 2, deadline) || errno != ETIMEDOUT;
}
