"""Work in a process of its own, ``python -m MODULE``, which says by and by what it has found.

The request and the answers are pickled. Whatever crashes the process, or is printed in it, is no
answer.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from schedules.errors import LeanconvError
from schedules.torch_left_out import leave_torch_out

#: Called with an answer.
Send = Callable[[object], None]


class Asked:
    """A process that was given a request; iterate over its answers to the end.

    ``status`` is its exit status then. An answer that is a LeanconvError is raised.
    """

    def __init__(
        self, module: str, request: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # TVM tells of every file and lost connection, LiteRT of every delegate.
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._request = request
        self.status = 0

    def __iter__(self) -> Iterator[Any]:
        process = self._process
        assert process.stdin and process.stdout
        try:
            with process, contextlib.suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
                pickle.dump(self._request, process.stdin)
                process.stdin.close()
                while True:
                    answer = pickle.load(process.stdout)
                    if isinstance(answer, LeanconvError):
                        raise answer
                    yield answer
        except BaseException:
            process.kill()
            raise
        self.status = process.returncode

    @property
    def ending(self) -> str:
        """How it ended, for the end of a sentence."""
        if self.status < 0:
            return f"by {signal.Signals(-self.status).name}"
        return f"with status {self.status}"


def answer(work: Callable[[Any, Send], None]) -> NoReturn:
    """Be such a process: do ``work``, which is given the request and sends answers."""
    leave_torch_out()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(found: object) -> None:
        pickle.dump(found, answers)
        answers.flush()

    try:
        work(pickle.load(sys.stdin.buffer), send)
    except LeanconvError as error:
        send(error)
    # Without TVM's destructors, which would talk to a board that may be gone.
    os._exit(0)
