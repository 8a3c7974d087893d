"""Processors and features by LLVM's names, which LLVM ignores where it does not know them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from schedules.errors import LeanconvError, nearest
from schedules.quiet import stderr_kept


def check_processor(mcpu: str, triple: str, others: Collection[str]) -> None:
    """Raise LeanconvError, which says what may have been meant, for a processor of no such name.

    ``others`` are triples for which it may be one.
    """
    from tvm.target import Target, codegen  # takes a second

    with stderr_kept():
        known = [t for t in (triple, *others) if codegen.llvm_is_valid_cpu(mcpu, t)]
    if known and triple not in known:
        raise LeanconvError(f"{mcpu!r} is another kind of processor: add -mtriple={known[0]}")
    if not known:
        targets = (Target({"kind": "llvm", "mtriple": t}) for t in others)
        names = {str(name) for t in targets for name in codegen.llvm_get_cpu_archlist(t)}
        raise LeanconvError(f"LLVM knows no processor {mcpu!r}{nearest(mcpu, names)}")


def check_features(mattr: Iterable[str], triple: str) -> None:
    """The same for features, each of the form ``+name`` or ``-name``."""
    from tvm.target import Target, codegen

    def features(mcpu: str, *more: str) -> set[str]:
        target = {"kind": "llvm", "mtriple": triple, "mcpu": mcpu, "mattr": list(more)}
        return set(map(str, codegen.llvm_get_cpu_features(Target(target))))

    for name in (attribute[1:] for attribute in mattr):
        with stderr_kept():
            known = name in features("generic", f"+{name}")
        if not known:
            cpus = codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple}))
            every = set().union(*(features(str(cpu)) for cpu in cpus))
            raise LeanconvError(f"LLVM knows no feature {name!r}{nearest(name, every)}")
