"""Runs on the board, with numpy and LiteRT only: one model with one delegate, from file to file.

usage: board_run.py MODEL DELEGATE THREADS ALGORITHMS PLAIN INPUTS.npz OUTPUTS.npz REPORTS.json

ALGORITHMS are names with commas between them, "" being the delegate's choice; one run for each.
Then, unless PLAIN is "", a run of LiteRT alone, called that: "xnnpack" as it is by default,
"builtin" with its own kernels, "reference" with those that are the same everywhere.
"""

import ctypes
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def run(interpreter: Interpreter, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of one run."""
    interpreter.allocate_tensors()
    for number, detail in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(detail["index"], values[f"arr_{number}"])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def main() -> None:
    model, library, threads, algorithms, plain, inputs, outputs, reports = sys.argv[1:]
    report = ctypes.CDLL(library).leanconv_report
    report.restype = ctypes.c_size_t
    report.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    values, results, texts = np.load(inputs), {}, {}
    for algorithm in algorithms.split(","):
        delegate = load_delegate(library, {"algorithm": algorithm} if algorithm else {})
        interpreter = Interpreter(
            model,
            experimental_delegates=[delegate],
            experimental_op_resolver_type=RESOLVERS["builtin"],
            num_threads=int(threads),
        )
        results[algorithm] = run(interpreter, values)
        buffer = ctypes.create_string_buffer(1 << 20)
        report(delegate._get_native_delegate_pointer(), buffer, len(buffer))
        texts[algorithm] = json.loads(buffer.value)
    if plain:
        interpreter = Interpreter(model, experimental_op_resolver_type=RESOLVERS[plain])
        results[plain], texts[plain] = run(interpreter, values), {}
    named: dict[str, Any] = {
        f"{name}.{i}": y for name, ys in results.items() for i, y in enumerate(ys)
    }
    np.savez(outputs, **named)
    Path(reports).write_text(json.dumps(texts))


main()
