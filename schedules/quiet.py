"""What C++ writes to standard error, which is not for users: TVM's log, and LLVM's warnings."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger(__name__)


@contextmanager
def stderr_kept() -> Iterator[None]:
    """Keep it away from the terminal, and log it instead, for ``-v``."""
    sys.stderr.flush()
    own = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "w+b") as kept:
        try:
            os.dup2(kept.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
            kept.seek(0)
            for line in kept.read().decode(errors="replace").splitlines():
                _LOG.info("%s", line)
