// SPDX-License-Identifier: Apache-2.0
//
// Runs the program `measure` inside of a TVM RPC session, which by itself can only store files and
// call the functions of libraries. Any RPC server loads this one, whatever it is written in: the
// function follows the C ABI of tvm-ffi and needs nothing of TVM.

#define _GNU_SOURCE // dladdr
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

// Of tvm-ffi's ABI: a value on the stack, and the type of an integer.
typedef struct {
    int32_t type_index;
    uint32_t zero_padding;
    int64_t v_int64;
} TVMFFIAny;
enum { kTVMFFIInt = 1 };

enum { CANNOT_START = 127, KILLED_BY_SIGNAL = 128, LONGEST_PATH = 4096 };

EXPORT int __tvm_ffi_run_measure(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                                 TVMFFIAny *result);

// The folder of this library.
static int own_folder(char folder[LONGEST_PATH]) {
    Dl_info info;
    if (!dladdr((const void *)own_folder, &info) || !info.dli_fname)
        return -1;
    const char *end = strrchr(info.dli_fname, '/');
    if (!end || end - info.dli_fname >= LONGEST_PATH)
        return -1;
    const size_t length = (size_t)(end - info.dli_fname);
    memcpy(folder, info.dli_fname, length);
    folder[length] = 0;
    return 0;
}

static void become_measure(const char *folder) {
    // The session is killed when it takes too long or the client is gone: end with it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(folder))
        return;
    const int output = open("results.jsonl", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (output < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
        return;
    // Files arrive without their permissions.
    if (chmod("measure", 0755))
        return;
    char *const arguments[] = {"./measure", NULL};
    execv(arguments[0], arguments);
}

// The exit status of `measure`, as a shell would tell it.
static int run_measure(void) {
    char folder[LONGEST_PATH];
    if (own_folder(folder))
        return CANNOT_START;
    // A server may ignore it, and then nobody below could wait for children.
    signal(SIGCHLD, SIG_DFL);
    const pid_t child = fork();
    if (child < 0)
        return CANNOT_START;
    if (child == 0) {
        become_measure(folder);
        _exit(CANNOT_START);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        return CANNOT_START;
    return WIFEXITED(status) ? WEXITSTATUS(status) : KILLED_BY_SIGNAL + WTERMSIG(status);
}

int __tvm_ffi_run_measure(void *self, const TVMFFIAny *arguments, int32_t argument_count,
                          TVMFFIAny *result) {
    (void)self;
    (void)arguments;
    (void)argument_count;
    result->type_index = kTVMFFIInt;
    result->zero_padding = 0;
    result->v_int64 = run_measure();
    return 0;
}
