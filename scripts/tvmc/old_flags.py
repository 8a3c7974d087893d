"""What became of the flags of TVM's own tvmc, up to TVM 0.19, that have no meaning here.

A table, and how it is looked up. Flags that exist under their old names are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from schedules.errors import LeanconvError
from tvmc.command import LineParser

_LEAVE_OUT = "leave it out"
_EXECUTOR = f"Relax's virtual machine runs every module, there is nothing to choose: {_LEAVE_OUT}"
_MICRO = "microcontrollers are not supported: the least is a 64-bit Arm core with Linux or Android"
_SEARCH = f"nothing but the schedules' own knobs is searched: {_LEAVE_OUT}, see --tuner"
_HARDWARE = f"what is known of the hardware comes with --target: {_LEAVE_OUT}"
_OPERATORS = "to time operators, see `tvmc run --profile`"

#: Of `compile` and `tune`.
_MODELS_AND_TARGETS = {
    "--model-format": f"models are .tflite files, told by their content: {_LEAVE_OUT}",
    "--desired-layout*": f"the kernels read NHWC, as TFLite's models have it: {_LEAVE_OUT}",
    "--mixed-precision*": f"kernels compute in the model's own precision: {_LEAVE_OUT}",
    "--target-host": "there are no accelerators, so --target is the host",
    "--target-llvm-*": "of LLVM's attributes mcpu, mattr, mtriple and num-cores have a flag: "
    f"{_LEAVE_OUT}",
    "--target-*": "the only kind of target is llvm, for x86-64 and 64-bit Arm processors",
    "--targets": "name one target with --target",
}
#: Command -> pattern of flags -> answer; the first pattern that matches counts.
OLD_FLAGS: Mapping[str, Mapping[str, str]] = {
    "tvmc compile": {
        "--executor*": _EXECUTOR,
        "--runtime*": f"a module needs TVM's runtime, a delegate none: {_LEAVE_OUT}",
        "--use-vm": _EXECUTOR,
        "--tuning-log*": "AutoTVM's logs cannot be used: tune with `tvmc tune` and give what it "
        "writes with --tuning-records",
        "--module-name": f"the module is called as the output file: {_LEAVE_OUT}",
        "--cross-compiler-options": "put them behind the compiler: --cc 'COMMAND OPTIONS'",
        "--dump-offloads": "--report FILE says of every layer who computes it",
        "--workspace-pools*": "pools are for microcontrollers; --workspace-limit BYTES keeps to a "
        "budget, and TFLite's or TVM's runtime holds the memory",
        "--instruments": _OPERATORS,
        "--print-pass-times": _OPERATORS,
        "--print-ir-*": "--dump-code tir,relax writes the code",
        "--experimental-tvm*-extension": "extensions are not loaded: call tvmc.compile from Python",
        **dict.fromkeys(("--target-c-*", "--target-ethos-*", "--target-cmsis-nn-*"), _MICRO),
        **_MODELS_AND_TARGETS,
    },
    "tvmc tune": {
        "--enable-autoscheduler": f"the schedules are made by hand, and tuned: {_LEAVE_OUT}",
        **dict.fromkeys(("--include-simple-tasks", "--search-strategy", "--hardware-ops"), _SEARCH),
        "--log-estimated-latency": "the latency is shown as tuning proceeds, and in --report FILE",
        **dict.fromkeys(
            ("--cache-line-bytes", "--num-cores", "--vector-unit-bytes", "--warp-size",
             "--max-shared-memory-per-block", "--max-local-memory-per-block",
             "--max-threads-per-block", "--max-vthread-extent"),
            _HARDWARE,
        ),
        "--input-shapes": f"layers are tuned in the model's shapes: {_LEAVE_OUT}",
        **_MODELS_AND_TARGETS,
    },
    "tvmc run": dict.fromkeys(("--list-options", "--options", "--project-dir"), _MICRO),
}  # fmt: skip

OLD_COMMANDS: Mapping[str, str] = {"micro": _MICRO}


def answer(command: str, flag: str) -> str | None:
    """What to say of a flag that ``command``, such as ``tvmc tune``, has no more."""
    table = OLD_FLAGS.get(command, {})
    return next((text for pattern, text in table.items() if fnmatchcase(flag, pattern)), None)


def check_old(parser: LineParser, words: Sequence[str]) -> None:
    """Look for what ``parser`` does not know any more in ``words``, a command line.

    Raises
    ------
    LeanconvError
        If there is anything; it says what replaced it.
    """
    name = next((word for word in words if not word.startswith("-")), "")
    if name in OLD_COMMANDS:
        raise LeanconvError(f"{name}: {OLD_COMMANDS[name]}")
    if name not in parser.commands:
        return
    command = parser.commands[name]
    for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
        text = answer(command.prog, flag)
        if text is not None and flag not in command.options:
            raise LeanconvError(f"{flag}: {text}")
