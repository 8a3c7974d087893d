"""``tvmc diff``: its options, and the table of tensors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.files import write_json
from tvmc.command import check_output
from tvmc.progress import shown_progress
from tvmc.running.run_command import delegate_options
from tvmc.running.runner import is_tflite
from tvmc.tables import format_table


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "diff",
        help="compare a compiled model with LiteRT, tensor by tensor",
        usage="tvmc diff MODEL (--delegate LIBRARY | --module FILE) [options]",
        description="Run a compiled model beside LiteRT's built-in kernels, and compare every "
        "tensor that can be seen with what LiteRT makes of the same inputs. The status is 1 if "
        "any differs by more than rounding does.",
    )
    command.set_defaults(run=_diff)
    add = command.add_argument
    add("model", metavar="MODEL", type=Path, help="the .tflite file")
    compiled = command.add_mutually_exclusive_group(required=True)
    compiled.add_argument("--delegate", metavar="LIBRARY", type=Path,
        help="a delegate that `tvmc compile` made")  # fmt: skip
    compiled.add_argument("--module", metavar="FILE", type=Path,
        help="a module of `tvmc compile -f so` or `-f tar`")  # fmt: skip
    add("--delegate-options", metavar="K:V;K:V", type=delegate_options, default={},
        help="handed to the delegate")  # fmt: skip
    add("-i", "--inputs", metavar="FILE", type=Path,
        help="values of inputs by their names, as .npz")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of random values [%(default)s]")
    add("--json", metavar="FILE", type=Path, help="write the table as JSON")


def _diff(options: argparse.Namespace) -> None:
    from tvmc.comparing.verification import WrongModule
    from tvmc.compiling import package
    from tvmc.diff_process import diff
    from tvmc.running.tensors import read_npz

    model: Path = options.model
    if options.json is not None:
        read = (model, options.delegate, options.module, options.inputs)
        check_output(options.json, read)
    if not is_tflite(model):
        raise LeanconvError(f"{model} is not a .tflite model")
    if not model.is_file():
        raise LeanconvError(f"there is no file {model}")
    if options.delegate_options and options.delegate is None:
        raise LeanconvError("--delegate-options goes with --delegate")
    inputs = None if options.inputs is None else read_npz(options.inputs)
    with shown_progress(options.verbose > 0) as progress:
        more: dict[str, Any] = {"inputs": inputs, "seed": options.seed}
        if options.delegate is not None:
            more["options"] = options.delegate_options
            found = diff("delegate", model, options.delegate, progress, **more)
        else:
            with package.load(options.module) as module:
                module.check_runs_here()
                more["metadata"] = module.metadata
                found = diff("module", model, module.library, progress, **more)
    if options.json is not None:
        write_json(options.json, found.to_dict())
    _print_rows(found.to_dict()["tensors"])
    if found.first is not None:
        raise WrongModule(str(found))
    print(found)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    header = ("tensor", "operator", "shape", "computed by", "max difference", "bound", "verdict")
    table = [
        [
            row["name"],
            row["operator"],
            "x".join(map(str, row["shape"])) or "scalar",
            row["computed_by"],
            f"{row['difference']:.3g}",
            f"{row['bound']:.3g}",
            "equal" if not row["difference"] else "within" if row["within"] else "DIFFERS",
        ]
        for row in rows
    ]
    print(format_table(header, table))
