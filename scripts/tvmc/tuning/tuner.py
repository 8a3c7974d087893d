"""What stands behind ``tvmc tune``, for programs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.errors import LeanconvError
from schedules.files import write_json
from schedules.target.simd import Simd
from schedules.tuning.search.tuners import TUNERS
from tvmc.running.loader import Model

if TYPE_CHECKING:
    from schedules.layer.block import Workload
    from schedules.plan.choice import Choice
    from schedules.target.toolchain import Toolchain
    from schedules.tuning.boards.base import Runner
    from schedules.tuning.records.calibration import Calibration
    from schedules.tuning.records.records import Logs, Record
    from schedules.tuning.tuner import Status, Tuner
    from tvmc.tuning.networks import NetworkReport

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskReport:
    """What became of one task.

    ``untuned_s`` and ``tuned_s`` are seconds of one call, ``None`` if nothing was measured;
    ``count`` says how often the models compute it.
    """

    workload: str
    count: int
    trials: int
    errors: int
    algorithm: str | None
    knobs: dict[str, Any] | None
    untuned_s: float | None
    tuned_s: float | None


@dataclass(frozen=True)
class TuneReport:
    """What :func:`tune` did; ``seconds`` is how long it took.

    ``networks`` are the models as a whole, tuned and untuned, or ``not_compared`` says why not.
    """

    target: str
    board: str
    cost_kind: str
    trials: int
    tasks: tuple[TaskReport, ...]
    seconds: float
    networks: tuple[NetworkReport, ...]
    not_compared: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def tune(
    models: str | Path | Model | Sequence[str | Path | Model],
    *,
    output: str | Path,
    target: str = "host",
    trials: int = 1000,
    tuner: str = "xgb",
    early_stopping: int = 64,
    seed: int = 0,
    number: int = 1,
    repeat: int = 5,
    min_repeat_ms: float = 10.0,
    timeout: float = 10.0,
    parallel: int | None = None,
    rpc_tracker: tuple[str, int] | None = None,
    rpc_key: str | None = None,
    board_command: str | None = None,
    tuning_records: Sequence[str | Path] = (),
    calibration: bool = True,
    host_figures: Callable[[Simd], Calibration | None] | None = None,
    workspace_limit: int | None = None,
    max_error: float | None = None,
    precision: str | None = None,
    cc: str | None = None,
    report: str | Path | None = None,
    notify: Callable[[Status], None] | None = None,
) -> TuneReport:
    """Tune the layers of .tflite models on the processor that shall run them.

    Parameters
    ----------
    models : path, Model, or a sequence of them
        The .tflite files, or what :func:`tvmc.running.loader.load` made of them; a layer that
        several of them have is tuned once.
    output : path
        Folder of the board's records, ``tuning_logs/<board>``: one line a trial is added to
        ``<dtype>.jsonl``. Trials that are there already are not repeated.
    target : str
        Whatever :meth:`schedules.target.simd.Simd.named` takes.
    trials : int
        Candidates to try, over all layers; those in ``output`` count.
    tuner : {"xgb", "ga", "random", "gridsearch"}
        How candidates are chosen: by a model that learns from all records of the target and
        proposes what it believes fastest, by a genetic algorithm, at random, or in order.
    early_stopping : int
        Trials without gain after which a layer is left alone.
    seed : int
        The same records and seed give the same choices.
    number, repeat, min_repeat_ms
        Each candidate is sampled ``repeat`` times; a sample is at least ``number`` calls and lasts
        at least ``min_repeat_ms`` milliseconds. The median counts.
    timeout : float
        Seconds after which a candidate is given up.
    parallel : int, optional
        Candidates to compile at the same time; by default as many as there are cores.
    rpc_tracker : tuple of str and int, optional
        Host and port of a TVM RPC tracker.
    rpc_key : str, optional
        What the boards behind it are called that are to be measured on.
    board_command : str, optional
        A shell command that runs ``{program}`` of ``{folder}`` on a board, for example by ``adb``
        or ``ssh``, and prints what it prints. Without it and a tracker, this machine is the board.
    tuning_records : sequence of paths
        More records of this target to learn from.
    calibration : bool
        Plan with what ``tvmc calibrate`` left in ``output``, if it did.
    host_figures
        As of :func:`tvmc.compiling.compiler.compile`, where this machine is the board.
    workspace_limit, max_error
        As of :func:`tvmc.compiling.compiler.compile`: what no candidate may exceed.
    precision
        Likewise: what layers of floats are computed in.
    cc : str, optional
        C compiler for the target.
    report : path, optional
        Where to write ``TuneReport.to_dict()`` as JSON.
    notify : callable, optional
        Called with a :class:`schedules.tuning.tuner.Status` after every batch.

    Raises
    ------
    LeanconvError
        If the input is wrong or a board does not answer; every finished trial is kept.
    KeyboardInterrupt
        When interrupted; every finished trial is kept.
    """
    simd = Simd.named(target)
    output = Path(output)
    if tuner not in TUNERS:
        raise LeanconvError(f"unknown tuner {tuner!r}: one of {', '.join(TUNERS)}")
    if rpc_tracker and board_command:
        raise LeanconvError("a board is reached through a tracker or by a command, not by both")
    if bool(rpc_tracker) != bool(rpc_key):
        raise LeanconvError("a tracker needs the key of its boards, and a key a tracker")

    from schedules.plan.planner import Limits  # imports TVM, which takes a second
    from schedules.target.toolchain import Toolchain
    from schedules.tuning.measure.measure import Measurer
    from schedules.tuning.measure.settings import Settings
    from schedules.tuning.records.board_info import BoardInfo, calibrated, check_same
    from schedules.tuning.records.records import MEASURED, Logs
    from schedules.tuning.records.task import tuning_target
    from schedules.tuning.tuner import Options, Tuner
    from tflite_delegate.targeted import read_for
    from tflite_delegate.tasks import tasks

    _LOG.debug("target %r is %s", target, simd)
    given = [models] if isinstance(models, str | Path | Model) else list(models)
    paths = [model.path if isinstance(model, Model) else model for model in given]
    figures = None if rpc_tracker or board_command else host_figures
    simd = calibrated(simd, [output], figures) if calibration else simd
    read = [read_for(path, simd, precision=precision) for path in paths]
    work = tasks(read, simd)
    if not work:
        raise LeanconvError("the models have no layer that leanconv can take: nothing to tune")
    for task in work:
        _LOG.debug("%d times %s", task.count, task.workload.to_text())
    settings = Settings(number, repeat, min_repeat_ms, timeout)
    options = Options(trials, tuner, early_stopping, seed, Limits(workspace_limit, max_error))
    with contextlib.ExitStack() as stack:
        toolchain = Toolchain.named(cc)
        runner = board_runner(simd, toolchain, rpc_tracker, rpc_key, board_command)
        stack.callback(runner.close)
        measurer = stack.enter_context(
            Measurer(simd, runner, settings, parallel or len(os.sched_getaffinity(0)), toolchain)
        )
        board = measurer.probe()
        _LOG.debug("board: %s", board)
        info = check_same(output, BoardInfo.of(output.name, tuning_target(simd), board))
        kind = str(board.get("cost_kind", MEASURED))
        known = _known(output, tuning_records, tuning_target(simd), kind)
        log = Logs(output)
        machine = Tuner(work, simd, measurer, log, output.name, known, options, notify)
        if not machine.progress:
            raise LeanconvError(
                "no layer has a kernel within --workspace-limit and --max-error: allow more"
            )
        info.write(output)
        machine.run()
    away = "a board's own LiteRT is not asked" if rpc_tracker or board_command else None
    not_compared = away or _no_litert()
    networks = () if not_compared else _judged(machine, list(map(Path, paths)), toolchain, log)
    result = _report(machine, kind, networks, not_compared)
    if report is not None:
        write_json(Path(report), result.to_dict())
    return result


def board_runner(
    simd: Simd,
    toolchain: Toolchain,
    rpc_tracker: tuple[str, int] | None,
    rpc_key: str | None,
    board_command: str | None,
) -> Runner:
    """What runs candidates: boards behind a tracker, a command, or this machine."""
    if rpc_tracker and rpc_key:
        from schedules.tuning.boards.rpc import RpcRunner

        return RpcRunner(rpc_tracker, rpc_key, simd, toolchain)
    if board_command:
        from schedules.tuning.boards.command import CommandRunner

        return CommandRunner(board_command)
    from schedules.tuning.boards.local import LocalRunner

    return LocalRunner()


def _known(output: Path, others: Sequence[str | Path], target: str, cost_kind: str) -> list[Record]:
    """What was recorded for ``target`` before, in ``output`` and elsewhere."""
    from schedules.tuning.records.records import load

    paths = [*([output] if any(output.glob("*.jsonl")) else []), *map(Path, others)]
    records = [record for path in paths for record in load(path)]
    return [r for r in records if r.target == target and r.cost_kind == cost_kind]


def _no_litert() -> str | None:
    """Why whole networks cannot be run here, if they cannot."""
    from tvmc.running.interpreter import runtime

    try:
        runtime("litert")
    except LeanconvError as error:
        return str(error)
    return None


def _judged(
    machine: Tuner, paths: Sequence[Path], toolchain: Toolchain, log: Logs
) -> tuple[NetworkReport, ...]:
    """The models tuned and untuned; records by which one is slower are marked in the log."""
    from schedules.tuning.measure.measure import Measurement
    from schedules.tuning.records.records import LOST, MEASURED
    from schedules.tuning.records.task import tuning_target
    from tvmc.tuning.networks import judge

    def mark(workload: Workload, choice: Choice) -> Record:
        record = machine.record(workload, Measurement(choice, (), LOST))
        log.append(record)
        return record

    known = _known(log.folder, (), tuning_target(machine.simd), MEASURED)
    return judge(paths, machine.simd, machine.options.limits, known, mark, toolchain)


def _report(
    machine: Tuner,
    cost_kind: str,
    networks: tuple[NetworkReport, ...],
    not_compared: str | None,
) -> TuneReport:
    tasks = []
    for state in machine.progress:
        best, untuned = machine.tuned(state), machine.untuned(state)
        tasks.append(
            TaskReport(
                workload=state.task.workload.to_text(),
                count=state.task.count,
                trials=state.trials,
                errors=state.errors,
                algorithm=best.candidate.algorithm if best else None,
                knobs=best.candidate.knobs if best else None,
                untuned_s=untuned.cost_s if untuned else None,
                tuned_s=best.cost_s if best else None,
            )
        )
    return TuneReport(
        target=machine.simd.name,
        board=machine.board,
        cost_kind=cost_kind,
        trials=machine.trials,
        tasks=tuple(tasks),
        seconds=round(machine.seconds, 3),
        networks=networks,
        not_compared=not_compared,
    )
