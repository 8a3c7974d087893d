"""Runs on the board: call the kernels of a library with given arguments, save what comes out.

Usage: board_kernels.py LIBRARY FOLDER, with ``arguments.npz`` and ``manifest.json`` in FOLDER.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 64


def main() -> None:
    library, folder = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2])
    manifest = json.loads((folder / "manifest.json").read_text())
    outputs: dict[str, Any] = {}
    with np.load(folder / "arguments.npz") as arguments:
        for name, kernel in manifest.items():
            y = arguments[f"{name}.y"]
            workspace = np.zeros(kernel["workspace"] + ALIGNMENT, np.uint8)
            aligned = workspace.ctypes.data + -workspace.ctypes.data % ALIGNMENT
            buffers = {a: arguments[f"{name}.{a}"] for a in "xrwb" if f"{name}.{a}" in arguments}
            buffers["y"] = y
            pointers = [
                ctypes.c_void_p(buffers[a].ctypes.data + kernel["offsets"].get(a, 0))
                if a in buffers
                else None
                for a in "xrwby"
            ]
            for symbol, extent in kernel["stages"]:
                half = extent // 2
                for begin, end in ((0, half), (half, extent)):
                    status = getattr(library, symbol)(
                        *pointers, ctypes.c_void_p(aligned), 0, begin, end
                    )
                    assert status == 0, symbol
            outputs[name] = y
    np.savez(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main()
