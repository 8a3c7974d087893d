"""Runs on the board: what a model with a delegate takes of the heap, as account.c counts it.

Usage: on_board.py MODEL DELEGATE, with account.c's library preloaded. Prints a line of JSON, as
compute_library.cc does.
"""

import ctypes
import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate


def main() -> None:
    """Open the model, run it once, and tell."""
    account = ctypes.CDLL(None)
    for name in ("account_held", "account_most"):
        getattr(account, name).restype = ctypes.c_long
    account.account_restart()
    before = account.account_held()
    delegate = load_delegate(sys.argv[2])
    interpreter = Interpreter(sys.argv[1], experimental_delegates=[delegate], num_threads=1)
    interpreter.allocate_tensors()
    allocated = account.account_held()
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], np.ones(image["shape"], np.float32))
    interpreter.invoke()
    heap = {
        "before": before,
        "allocated": allocated,
        "after": account.account_held(),
        "most": account.account_most(),
    }
    print(json.dumps(heap))


if __name__ == "__main__":
    main()
