// SPDX-License-Identifier: Apache-2.0
//
// Check and time the kernels of a batch, one thread each, and print a JSON line for each.
//
//     measure [--once]
//
// Kernels take turns: every round takes one sample of each, so that what the machine does meanwhile
// falls on all of them alike. Each check and each sample is a process of its own, so that a kernel
// that crashes or never ends harms nobody else. With --once, for a model of a processor, nothing is
// timed: every kernel is called once between markers, all in this process.

#include "measure.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// What is known of one kernel.
struct state {
    double *samples;
    uint32_t sample_count;
    uint64_t calls;
    bool ended; // its line is printed
};

// Wait for the report until the time is over; whether it came.
static bool receive(int source, struct report *report, double deadline, bool *in_time) {
    for (;;) {
        double left = deadline - now();
        struct pollfd entry = {.fd = source, .events = POLLIN};
        int ready = left > 0 ? poll(&entry, 1, (int)(left * 1000) + 1) : 0;
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        *in_time = ready != 0;
        // Shorter than what a pipe takes at once, so it comes whole or, from a process that died,
        // not at all.
        return ready > 0 && read(source, report, sizeof *report) == (ssize_t)sizeof *report;
    }
}

static _Noreturn void work(const struct kernel *kernel, const struct tensors *tensors,
                           bool is_check, uint64_t calls, int sink) {
    const struct rlimit none = {0, 0};
    struct report report = {0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (is_check) {
        check(kernel, tensors, &report);
    } else {
        sample(kernel, tensors, calls, &report);
    }
    _exit(write(sink, &report, sizeof report) == (ssize_t)sizeof report ? 0 : 1);
}

// One check or one sample of a kernel, in a process of its own.
static struct report in_child(const struct kernel *kernel, const struct tensors *tensors,
                              bool is_check, uint64_t calls) {
    struct report report = {0};
    int ends[2] = {-1, -1}, status = 0;
    pid_t child = pipe(ends) == 0 ? fork() : -1;
    if (child < 0) {
        snprintf(report.error, sizeof report.error, "no process for it: %s", strerror(errno));
        if (ends[0] >= 0) {
            close(ends[0]);
            close(ends[1]);
        }
        return report;
    }
    if (child == 0) {
        close(ends[0]);
        work(kernel, tensors, is_check, calls, ends[1]);
    }
    close(ends[1]);
    bool in_time = true;
    bool received = receive(ends[0], &report, now() + batch.timeout_s, &in_time);
    close(ends[0]);
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (received) {
        return report;
    }
    report = (struct report){0};
    if (!in_time) {
        snprintf(report.error, sizeof report.error, "took longer than %g s", batch.timeout_s);
    } else if (WIFSIGNALED(status)) {
        snprintf(report.error, sizeof report.error, "crashed: signal %d", WTERMSIG(status));
    } else {
        snprintf(report.error, sizeof report.error, "crashed: status %d", WEXITSTATUS(status));
    }
    return report;
}

static void print_kernel(uint32_t index, const struct state *state, const char *error) {
    printf("{\"kernel\": %u, \"samples_s\": [", (unsigned)index);
    if (error[0]) {
        printf("], \"error\": \"%s\"}\n", error);
        return;
    }
    for (uint32_t i = 0; i < state->sample_count; i++) {
        printf("%s%.9g", i ? ", " : "", state->samples[i]);
    }
    printf("], \"error\": null}\n");
}

static void check_all(const struct tensors *tensors, struct state *states) {
    for (uint32_t i = 0; i < batch.kernel_count; i++) {
        struct report report = in_child(&batch.kernels[i], tensors, true, 0);
        if (report.error[0]) {
            print_kernel(i, &states[i], report.error);
            states[i].ended = true;
        }
    }
}

static void sample_all(const struct tensors *tensors, struct state *states, double deadline) {
    for (uint32_t i = 0; i < batch.kernel_count; i++) {
        struct state *state = &states[i];
        if (state->ended || (state->sample_count > 0 && now() > deadline)) {
            continue;
        }
        struct report report = in_child(&batch.kernels[i], tensors, false, state->calls);
        if (report.error[0]) {
            print_kernel(i, state, report.error);
            state->ended = true;
        } else {
            state->samples[state->sample_count++] = report.seconds;
            state->calls = report.calls;
        }
    }
}

static void mark_all(const struct tensors *tensors, struct state *states) {
    for (uint32_t i = 0; i < batch.kernel_count; i++) {
        struct report report = {0};
        mark(&batch.kernels[i], tensors, &report);
        print_kernel(i, &states[i], report.error);
        states[i].ended = true;
    }
}

static struct state *make_states(void) {
    struct state *states = calloc(batch.kernel_count + 1, sizeof *states);
    for (uint32_t i = 0; states && i < batch.kernel_count; i++) {
        states[i].samples = calloc(batch.repeat + 1, sizeof *states[i].samples);
        if (!states[i].samples) {
            return NULL;
        }
    }
    return states;
}

int main(int argc, char **argv) {
    struct tensors tensors;
    bool once = argc == 2 && strcmp(argv[1], "--once") == 0;
    if (argc > 2 || (argc == 2 && !once)) {
        fprintf(stderr, "usage: %s [--once]\n", argv[0]);
        return 2;
    }
    // A line must not wait in a buffer for a crash, nor be in that of a child as well.
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGCHLD, SIG_DFL); // ignored, by whoever started this, children could not be waited for
    print_board();
    use_largest_cores();
    char *slash = strrchr(argv[0], '/');
    if (slash) {
        *slash = 0;
    }
    struct state *states = make_states();
    if (!states || !map_tensors(slash ? argv[0] : ".", &tensors)) {
        return 1;
    }
    if (once) {
        mark_all(&tensors, states);
    } else {
        double deadline = now() + batch.budget_s;
        check_all(&tensors, states);
        for (uint32_t round = 0; round < batch.repeat; round++) {
            sample_all(&tensors, states, deadline);
        }
    }
    for (uint32_t i = 0; i < batch.kernel_count; i++) {
        if (!states[i].ended) {
            print_kernel(i, &states[i], "");
        }
    }
    printf("{\"done\": true}\n");
    return 0;
}
