"""The options of ``tvmc compile`` that only modules for TVM's runtime have, as in old tvmc."""

from __future__ import annotations

import argparse
import re

from schedules.errors import LeanconvError
from tvmc.command import names

#: What ``--dump-code`` can write.
CODES = ("asm", "tir", "relax")
#: One input of ``--input-shapes``. Names have no spaces; those of TFLite do have colons.
_INPUT_SHAPE = re.compile(r"[\s,]*(\S+?)\s*:\s*\[([\d\s,]*)\]")
#: The options by their names in :func:`tvmc.compiling.compiler.compile`.
_FLAGS = {
    "input_shapes": "--input-shapes",
    "signature": "--signature",
    "dump_code": "--dump-code",
    "opt_level": "--opt-level",
    "pass_config": "--pass-config",
    "disabled_passes": "--disabled-pass",
    "verify": "--no-verify",
}


def add_module_options(command: argparse.ArgumentParser) -> None:
    """Add them to a command; :func:`check_module_options` looks at them."""
    group = command.add_argument_group("TVM modules", "only with -f so and -f tar")
    add = group.add_argument
    add("--input-shapes", metavar="SHAPES", type=_input_shapes,
        help="shapes of inputs, for another batch or sizes that the model leaves open: "
        "'name:[8,224,224,3] name2:[…]'")  # fmt: skip
    add("--signature", metavar="NAME",
        help="compile the graph of this signature, with its names of inputs and outputs "
        "[the main graph]")  # fmt: skip
    add("--dump-code", metavar="CODE[,CODE…]", type=_codes,
        help=f"write OUT.CODE beside the output: {', '.join(CODES)}")  # fmt: skip
    add("-O", "--opt-level", metavar="LEVEL", type=int, choices=range(5),
        help="of TVM's passes, 0 to 4 [3]")  # fmt: skip
    add("--pass-config", metavar="NAME=VALUE", type=_setting, action="append",
        help="set an option of TVM's passes; may be given several times")  # fmt: skip
    add("--disabled-pass", metavar="NAME[,NAME…]", type=names, dest="disabled_passes",
        help="leave out these passes of TVM")  # fmt: skip
    add("--no-verify", action="store_false", default=None, dest="verify",
        help="do not compare the module with LiteRT, where both run")  # fmt: skip


def check_module_options(options: argparse.Namespace) -> None:
    """Refuse them for a delegate, and for a module what only delegates have."""
    used = [flag for name, flag in _FLAGS.items() if getattr(options, name) is not None]
    is_delegate = options.output_format.startswith("delegate")
    if used and is_delegate:
        raise LeanconvError(f"{used[0]} is for modules, -f so and -f tar: this is a delegate")
    if options.batch is not None and not is_delegate:
        raise LeanconvError("--batch is for delegates: modules take --input-shapes")
    for name in ("precision", "memory_limit", "threads", "weights", "file_limit"):
        if getattr(options, name) is not None and not is_delegate:
            raise LeanconvError(f"--{name.replace('_', '-')} is for delegates")


def _input_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """``name:[1,224,224,3] name2:[…]`` as shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    position = 0
    while not shapes or text[position:].strip():
        match = _INPUT_SHAPE.match(text, position)
        sizes = match[2].split(",") if match else []
        if match is None or not all(size.strip().isdecimal() and int(size) for size in sizes):
            rest = text[position:].strip()
            raise argparse.ArgumentTypeError(f"{rest!r} is not of the form name:[1,224,224,3]")
        if match[1] in shapes:
            raise argparse.ArgumentTypeError(f"{match[1]!r} is there twice")
        shapes[match[1]] = tuple(map(int, sizes))
        position = match.end()
    return shapes


def _codes(text: str) -> list[str]:
    codes = list(dict.fromkeys(names(text)))
    for code in codes:
        if code not in CODES:
            raise argparse.ArgumentTypeError(f"{code!r} is not one of {', '.join(CODES)}")
    return codes


def _setting(text: str) -> tuple[str, int | bool | str]:
    """``NAME=VALUE`` for TVM's passes, which take numbers, booleans and strings."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    return name, int(value) if re.fullmatch(r"-?\d+", value) else value
