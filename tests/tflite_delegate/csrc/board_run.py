"""Runs on the board, with numpy and LiteRT only: one model with one delegate, from file to file.

usage: board_run.py MODEL DELEGATE THREADS ALGORITHMS INPUTS.npz OUTPUTS.npz REPORTS.json

ALGORITHMS are names with commas between them, "" being the delegate's choice; one run for each.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate


def main() -> None:
    model, library, threads, algorithms, inputs, outputs, reports = sys.argv[1:]
    report = ctypes.CDLL(library).leanconv_report
    report.restype = ctypes.c_size_t
    report.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    values, results, texts = np.load(inputs), {}, {}
    for algorithm in algorithms.split(","):
        delegate = load_delegate(library, {"algorithm": algorithm} if algorithm else {})
        interpreter = Interpreter(
            model,
            experimental_delegates=[delegate],
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            num_threads=int(threads),
        )
        interpreter.allocate_tensors()
        for number, detail in enumerate(interpreter.get_input_details()):
            interpreter.set_tensor(detail["index"], values[f"arr_{number}"])
        interpreter.invoke()
        for number, detail in enumerate(interpreter.get_output_details()):
            results[f"{algorithm}.{number}"] = interpreter.get_tensor(detail["index"])
        buffer = ctypes.create_string_buffer(1 << 20)
        report(delegate._get_native_delegate_pointer(), buffer, len(buffer))
        texts[algorithm] = json.loads(buffer.value)
    np.savez(outputs, **results)
    Path(reports).write_text(json.dumps(texts))


main()
