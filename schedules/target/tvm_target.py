"""TVM's targets as people write them: JSON, a tag, or the strings of old TVM.

Whatever is wrong with one is told in a line. What a target means is in
:mod:`schedules.target.simd`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from schedules.errors import LeanconvError

_NAMES = frozenset({"kind", "mtriple", "mcpu", "mattr", "num-cores"})
#: Cores that share a layer at most: more than processors have, fewer than a system refuses.
MAX_CORES = 1024
#: Attributes that change nothing here, beside the ``feature.…`` that TVM derives.
_HINTS = frozenset({"tag", "keys", "device", "model", "libs", "host"})


def parse(text: str) -> dict[str, Any] | None:
    """The dict that TVM takes today for a JSON target, a tag, or ``llvm -mcpu=…``.

    ``None`` if it is nothing of that kind.

    Raises
    ------
    LeanconvError
        If it is, and cannot be understood.
    """
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise LeanconvError(f"target {text!r} is not valid JSON: {error}") from None
    if text.split()[:1] == ["llvm"]:
        return _parse_llvm_string(text)
    return _tagged(text) if "/" in text else None


def _parse_llvm_string(text: str) -> dict[str, Any]:
    """``llvm -mtriple=T -mcpu=C -mattr=+a,+b``."""
    target: dict[str, Any] = {"kind": "llvm"}
    try:
        words = shlex.split(text)[1:]
    except ValueError as error:
        raise LeanconvError(f"target {text!r}: {error}") from None
    for word in words:
        key, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not equals:
            raise LeanconvError(f"target {text!r}: {word!r} is not of the form -name=value")
        if key in target:
            raise LeanconvError(f"target {text!r}: -{key} is there twice")
        if key in ("mtriple", "mcpu"):
            target[key] = value
        elif key == "mattr":
            target[key] = value.split(",")
        elif key == "num-cores" and value.isdecimal():
            target[key] = int(value)
        elif key not in _HINTS:
            raise LeanconvError(f"target {text!r}: {word!r} is not supported")
    return target


def _tagged(name: str) -> dict[str, Any] | None:
    """The target to which TVM has given a tag; ``None`` if it knows none of that name."""
    from tvm.target import Target, list_tags  # takes a second

    return json.loads(str(Target(name))) if name in list_tags() else None


def check_names(target: Mapping[str, Any]) -> None:
    """Refuse attributes that would change what is compiled and are not understood."""
    for name in target:
        if name not in _NAMES | _HINTS and not name.startswith("feature."):
            raise LeanconvError(f"target attribute {name!r} is not supported")


def string(target: Mapping[str, Any], name: str) -> str:
    """An attribute; empty where it is missing."""
    value = target.get(name, "")
    if not isinstance(value, str):
        raise LeanconvError(f"target attribute {name!r}: {value!r} is not a string")
    return value


def features(target: Mapping[str, Any]) -> tuple[str, ...]:
    """The attribute ``mattr``, whose elements LLVM would ignore without a sign.

    All of aarch64 has ``+neon``, which TVM's tags name. It is left out, so that a target is the
    same with and without, also for those who look for its tuning records.
    """
    values = target.get("mattr", ())
    if not isinstance(values, list | tuple):
        raise LeanconvError(f"target attribute 'mattr': {values!r} is not a list")
    for value in values:
        if not isinstance(value, str) or not re.fullmatch(r"[+-][\w.-]+", value):
            raise LeanconvError(f"target attribute 'mattr': {value!r} is not of the form +name")
    return tuple(value for value in values if value != "+neon")


def cores(target: Mapping[str, Any], default: int) -> int:
    """The attribute ``num-cores``."""
    value = target.get("num-cores", default)
    if type(value) is not int or value < 1:
        raise LeanconvError(f"target attribute 'num-cores': {value!r} is not a number above 0")
    if value > MAX_CORES:
        raise LeanconvError(f"target attribute 'num-cores': {value} is more than {MAX_CORES}")
    return value
