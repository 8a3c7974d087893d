"""Imports of TVM, and of what lowers kernels, put off until something of them is used.

What a kernel takes follows from formulas that stand beside its schedule. Who only asks for these
needs no TVM, whose import takes most of a second.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_TVM = ("tvm", "tvm_ffi")
_LOWER = "schedules.lower."
#: Those modules of it that need no TVM.
_PLAIN = ("memory", "kernel")


def put_tvm_off() -> None:
    """For processes of our own that have not imported TVM yet: have names of it stand for it."""
    if sys.modules.keys().isdisjoint((*_TVM, "schedules.algorithms")):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds modules that have nothing in them yet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        plain = fullname.removeprefix(_LOWER)
        if fullname.partition(".")[0] in _TVM or (plain != fullname and plain not in _PLAIN):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it is what was put off."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self.__name__, name)


class _Name:
    """What a module has under a name, once something is asked of it."""

    def __init__(self, module: str, name: str) -> None:
        self._at = module, name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_found(*self._at), name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _found(*self._at)(*arguments, **named)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, _found(*self._at))


def _found(module: str, name: str) -> Any:
    """The real thing; from now on, imports are as usual."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, _Finder)]:
        sys.meta_path.remove(finder)
        empty = [known for known, what in sys.modules.items() if isinstance(what, _Module)]
        for known in empty:
            del sys.modules[known]
    return getattr(importlib.import_module(module), name)
