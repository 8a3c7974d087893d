"""One-line faults that the suite has to find, by area; ``make test-planted`` plants each.

They prove that what `make test` leaves to `make test-all` finds nothing that it does not find
itself. A fault is a line of a file and what stands there instead, with the tests that find it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """``old``, which stands once in ``file``, becomes ``new``; some of ``tests`` must fail.

    ``tests`` are arguments of pytest.
    """

    area: str
    file: str
    old: str
    new: str
    tests: str


ALGORITHMS = "tests/schedules/algorithms/test_algorithms.py"
DELEGATE = "tests/tflite_delegate/csrc/test_delegate.py"
UNITS = "tests/tflite_delegate/csrc/layer/test_merge.py"
RELAX = "tests/schedules/relax/test_transform.py"

DEFECTS = (
    Defect(
        "lowering",
        "schedules/lower/stages.py",
        "self.top[self.per_thread] = offset + size",
        "self.top[self.per_thread] = offset",
        f"{ALGORITHMS} -k mec_solution_a_keeps",
    ),
    Defect(
        "lowering",
        "schedules/lower/stages.py",
        "offset = align(self.top[self.per_thread])",
        "offset = self.top[self.per_thread] + 4",
        f"{ALGORITHMS} -k mec_solution_a_keeps",
    ),
    Defect(
        "lowering",
        "schedules/lower/stages.py",
        "return start, runs, (loop.loop_var + first) * width",
        "return start, runs, loop.loop_var * width",
        f"{ALGORITHMS} -k 'agrees_with_float64 and kn2row_aa and not board'",
    ),
    Defect(
        "masks",
        "schedules/lower/masked_loops.py",
        "body = tirx.IfThenElse(condition, body, None)",
        "body = tirx.IfThenElse(tirx.Not(condition), body, None)",
        "tests/schedules/lower/test_masked_loops.py",
    ),
    Defect(
        "masks",
        "schedules/lower/masked_loops.py",
        "if used and not used & own:",
        "if used:",
        "tests/schedules/lower/test_masked_loops.py",
    ),
    Defect(
        "packing",
        "schedules/kernel/packing.py",
        "padded[..., : len(weights), :] = matrices",
        "padded[..., -len(weights) :, :] = matrices",
        "tests/schedules/kernel/test_packing.py",
    ),
    Defect(
        "packing",
        "schedules/kernel/packing.py",
        '(0, 1, 2, 3) if packed.layout == "rows" else (1, 2, 0, 3)',
        '(0, 1, 2, 3) if packed.layout == "rows" else (2, 1, 0, 3)',
        "tests/schedules/kernel/test_packing.py",
    ),
    Defect(
        "packing",
        "schedules/kernel/packing.py",
        "padded[: len(bias)] = bias",
        "padded[-len(bias) :] = bias",
        f"{ALGORITHMS} -k 'agrees_with_float64 and indirect and not board'",
    ),
    Defect(
        "epilogue",
        "schedules/kernel/epilogue.py",
        "return complete(accumulator + bias, workload, residual)",
        "return complete(accumulator, workload, residual) + bias",
        f"{ALGORITHMS} -k 'agrees_with_float64 and indirect and not board'",
    ),
    Defect(
        "epilogue",
        "schedules/kernel/epilogue.py",
        "return activate(value + residual, workload.output_activation, workload.dtype)",
        "return activate(value + residual, workload.activation, workload.dtype)",
        f"{ALGORITHMS} -k 'agrees_with_float64 and residual and indirect'",
    ),
    Defect(
        "planner limits",
        "schedules/plan/planner.py",
        "if most is not None and plan.workspace_bytes > most:",
        "if most is not None and plan.workspace_bytes >= most:",
        "tests/schedules/plan/test_planner.py",
    ),
    Defect(
        "planner limits",
        "schedules/plan/planner.py",
        "and plan.expected_error > limits.error:",
        "and plan.expected_error < limits.error:",
        "tests/schedules/plan/test_planner.py",
    ),
    Defect(
        "arena",
        "schedules/budget/arena.py",
        "if read.get(tensor, -1) > written[tensor]",
        "if read.get(tensor, -1) > written[tensor] + 1",
        "tests/tflite_delegate/read/test_graphs.py tests/tflite_delegate/test_selection.py",
    ),
    Defect(
        "arena",
        "schedules/budget/arena.py",
        "for life in lives if life.first <= time <= life.last",
        "for life in lives if life.first < time <= life.last",
        "tests/tflite_delegate/read/test_graphs.py tests/tflite_delegate/test_selection.py",
    ),
    Defect(
        "budget",
        "schedules/budget/exact.py",
        "return (place < 0) | (self.cost[place] > cost)",
        "return (place < 0) | (self.cost[place] < cost)",
        "tests/schedules/budget/test_exact.py",
    ),
    Defect(
        "budget",
        "schedules/budget/arena.py",
        "alone = readers[source] == readers[owner[source]] == 1",
        "alone = True",
        "tests/schedules/budget/test_arena.py",
    ),
    Defect(
        "merge rules (Python)",
        "schedules/layer/merge.py",
        "if any(amounts[:2] + amounts[-2:]):",
        "if False:",
        UNITS,
    ),
    Defect(
        "merge rules (Python)",
        "schedules/layer/merge.py",
        "amounts[2:], strict=False))",
        "amounts[1:], strict=False))",
        f"{UNITS} tests/tflite_delegate/read/test_graphs.py",
    ),
    Defect(
        "merge rules (C)",
        "tflite_delegate/csrc/layer/merge.c",
        "pad->left = of_image[2];",
        "pad->left = of_image[3];",
        f"{UNITS} tests/tflite_delegate/read/test_graphs.py",
    ),
    Defect(
        "merge rules (C)",
        "tflite_delegate/csrc/layer/merge.c",
        "if (layer->residual != TFL_OPTIONAL_TENSOR) {",
        "if (false) {",
        f"{UNITS} tests/tflite_delegate/read/test_graphs.py",
    ),
    Defect(
        "claims",
        "tflite_delegate/csrc/claim/claim.c",
        "lc_library.features & ~lc_cpu_features()",
        "lc_library.features & ~lc_library.features",
        f"{DELEGATE} -k features",
    ),
    Defect(
        "claims",
        "tflite_delegate/csrc/claim/claim.c",
        "claims->unknown += !reason;",
        "claims->unknown += 0;",
        f"{DELEGATE} -k other_model",
    ),
    Defect(
        "pool",
        "tflite_delegate/csrc/host/pool.c",
        "uint32_t begin = (uint32_t)((int64_t)extent * i / threads);",
        "uint32_t begin = (uint32_t)((int64_t)extent * i / threads) + (i > 0);",
        f"{DELEGATE} -k thread_counts_agree",
    ),
    Defect(
        "pool",
        "tflite_delegate/csrc/host/pool.c",
        "if (--library.delegates == 0) {",
        "if (--library.delegates < 0) {",
        f"{DELEGATE} -k threads_end",
    ),
    Defect(
        "records",
        "schedules/tuning/records/record.py",
        'if values["v"] > VERSION:',
        'if values["v"] > VERSION + 1:',
        "tests/schedules/tuning/records/test_record.py",
    ),
    Defect(
        "records",
        "schedules/tuning/records/log.py",
        'if size and os.pread(file, 1, size - 1) != b"\\n":',
        'if size and os.pread(file, 1, size - 1) == b"":',
        "tests/schedules/tuning/records/test_log.py",
    ),
    Defect(
        "tuner resume",
        "schedules/tuning/tuner.py",
        "own = [record for record in self.records if record.workload == task.workload]",
        "own: list[Record] = []",
        "tests/schedules/tuning/test_tuner.py -k resumes",
    ),
    Defect(
        "tuner resume",
        "schedules/tuning/tuner.py",
        "search.update(state.records)",
        "search.update([])",
        "tests/schedules/tuning/test_tuner.py -k resumes",
    ),
    Defect(
        "Relax pass",
        "schedules/relax/transform.py",
        '"external_mods", [*others, library]',
        '"external_mods", [library]',
        f"{RELAX} -k other_libraries",
    ),
    Defect(
        "Relax pass",
        "schedules/relax/kernels.py",
        "offset = image * image_step + group * group_step",
        "offset = group * group_step",
        f"{RELAX} -k 'test_layer or test_block'",
    ),
)
