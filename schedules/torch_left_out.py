"""TVM's import without torch's.

Where torch is installed, tvm_ffi imports it first, lest the symbols of both clash on Windows. That
takes a second, in every process, of which none of ours has a use for torch.
"""

from __future__ import annotations

import sys


def leave_torch_out() -> None:
    """For processes of our own, which have not imported TVM yet: have them do so without torch."""
    if "tvm_ffi" not in sys.modules:
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
