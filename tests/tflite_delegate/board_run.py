"""Runs on the board, with numpy and LiteRT only: one model with one delegate, from file to file.

usage: board_run.py MODEL DELEGATE THREADS ALGORITHM INPUTS.npz OUTPUTS.npz REPORT.json
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate


def main() -> None:
    model, library, threads, algorithm, inputs, outputs, report = sys.argv[1:]
    delegate = load_delegate(library, {"algorithm": algorithm} if algorithm else {})
    interpreter = Interpreter(
        model,
        experimental_delegates=[delegate],
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=int(threads),
    )
    interpreter.allocate_tensors()
    values = np.load(inputs)
    for number, detail in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(detail["index"], values[f"arr_{number}"])
    interpreter.invoke()
    results = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    np.savez(outputs, *results)
    function = ctypes.CDLL(library).leanconv_report
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    buffer = ctypes.create_string_buffer(1 << 20)
    function(delegate._get_native_delegate_pointer(), buffer, len(buffer))
    Path(report).write_bytes(buffer.value)


main()
