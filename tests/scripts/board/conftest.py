"""Programs for the emulated board, and commands that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scripts.board.command import main
from tests.support.arm_programs import compile_for_arm

ErrorLine = Callable[[Sequence[str | Path]], str]


PROGRAM_SOURCE = r"""
#include <signal.h>
#include <stdio.h>
#include <sys/utsname.h>

int main(int argc, char **argv) {
    struct utsname name;
    uname(&name);
    printf("%s", name.machine);
    for (int i = 1; i < argc; i++)
        printf(" [%s]", argv[i]);
    printf("\n");
    fflush(stdout);
    if (argc > 2)
        raise(SIGTERM);
    return 3;
}
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.c").write_text(PROGRAM_SOURCE)
    return compile_for_arm(folder / "program.c", folder / "program")


# Takes no node; its report repeats the options it was given.
DELEGATE_SOURCE = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct delegate {
    void *data;
    int (*prepare)(void *context, struct delegate *delegate);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *opaque;
};

static int prepare(void *context, struct delegate *delegate) {
    (void)context;
    (void)delegate;
    return 0;
}

static struct delegate instance = {.prepare = prepare};
static char options[256];

struct delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                               size_t count, void (*report_error)(const char *)) {
    options[0] = 0;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(keys[i], "refuse")) {
            report_error("the delegate refuses");
            return NULL;
        }
        size_t length = strlen(options);
        snprintf(options + length, sizeof options - length, "%s\"%s\": \"%s\"", i ? ", " : "",
                 keys[i], values[i]);
    }
    return &instance;
}

void tflite_plugin_destroy_delegate(struct delegate *delegate) { (void)delegate; }

size_t leanconv_report(const struct delegate *delegate, char *buffer, size_t size) {
    return delegate == &instance ? (size_t)snprintf(buffer, size, "{%s}", options) : 0;
}
"""


@pytest.fixture(scope="session")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "delegate.c").write_text(DELEGATE_SOURCE)
    return compile_for_arm(
        folder / "delegate.c", folder / "libdelegate.so", "-shared", "-fPIC", "-O1"
    )


@pytest.fixture
def error_line(capfd: pytest.CaptureFixture[str]) -> ErrorLine:
    """Runs a command that fails; the one line that it prints."""

    def run(arguments: Sequence[str | Path]) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("board: error: ")
        return line.removeprefix("board: error: ")

    return run
