"""Names of a model's inputs and outputs, whatever the file holds."""

from __future__ import annotations

from collections.abc import Sequence


def unique_names(names: Sequence[str | bytes | None], kind: str) -> list[str]:
    """A name for each tensor by which a user can tell it from the others.

    Parameters
    ----------
    names : sequence of str, bytes or None
        As the file has them: maybe missing, empty, equal, or no UTF-8.
    kind : str
        ``"input"`` or ``"output"``: a tensor without a name is ``input_0`` at the first place.

    Returns
    -------
    list of str
        The file's own name wherever it is the first of its kind.
    """
    decoded = [
        name.decode(errors="replace") if isinstance(name, bytes) else name or "" for name in names
    ]
    taken = {name for name in decoded if name}
    found: list[str] = []
    for place, name in enumerate(decoded):
        if not name or name in found:
            stem = f"{name or kind}_{place}"
            name = stem
            while name in taken:
                name += "_"
            taken.add(name)
        found.append(name)
    return found
