"""``tvmc plan --html``: one page that shows the plans, the arena over time and every kernel.

The page holds its data and its script, and needs neither network nor server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.files import replace_atomically

if TYPE_CHECKING:
    from schedules.budget.problem import Form, Solution, Unit
    from schedules.layer.network import Network

_TEMPLATE = Path(__file__).with_name("page.html")
#: What the data stand for in the template.
_PLACE = "/*DATA*/null"


def write_page(
    path: Path,
    network: Network,
    target: str,
    solutions: Sequence[Solution],
    fastest: int,
    chosen: Solution,
    threads: int = 1,
    options: str = "",
) -> None:
    """Write the page.

    Parameters
    ----------
    solutions : sequence of Solution
        What it shows, the fewest bytes first.
    fastest : int
        Cost of the fastest plan.
    chosen : Solution
        The one that it shows first.
    threads : int
        That these are for.
    options : str
        Of ``tvmc compile``, for these plans.
    """
    numbers = {
        choice: number
        for number, choice in enumerate(
            dict.fromkeys(choice for solution in solutions for choice in solution.chosen)
        )
    }
    data = {
        "model": network.name,
        "target": target,
        "threads": threads,
        "options": f"{options} " if options else "",
        "steps": len(network.steps),
        "chosen": solutions.index(chosen),
        "kernels": [_kernel(network, *choice) for choice in numbers],
        "plans": [
            _plan(network, solution, fastest)
            | {"kernels": [numbers[choice] for choice in solution.chosen]}
            for solution in solutions
        ],
    }
    # No text of a model may end the script.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, text)
    replace_atomically(path, page.encode("utf-8"))


def _plan(network: Network, solution: Solution, fastest: int) -> dict[str, Any]:
    from schedules.budget.arena import arena_bytes  # imports TVM, which takes a second
    from schedules.budget.promise import placed

    items = placed(network, solution)
    arena = arena_bytes(items)
    slots = max((item.life.last for item in items), default=0)
    held = [
        sum(item.life.bytes for item in items if item.life.first <= step <= item.life.last)
        for step in range(max(slots, 1))
    ]
    return {
        "bytes": arena + solution.weights + solution.own,
        "arena_bytes": arena,
        "packed_bytes": solution.weights,
        "own_bytes": solution.own,
        "file_bytes": solution.file,
        "time": round(solution.cost / fastest, 4) if fastest else 1.0,
        "slots": max(slots, 1),
        "peak": held.index(max(held)),
        "placed": [
            [item.name, item.life.first, item.life.last, item.life.bytes, item.offset]
            for item in items
        ],
    }


def choice_name(form: Form) -> str:
    """What a form is, as ``--algorithm`` takes it."""
    from schedules.budget.recorded import LEFT  # as above

    return LEFT if form.plan is None else str(form.plan.choice)


def _kernel(network: Network, unit: Unit, form: Form) -> dict[str, Any]:
    from schedules.budget.pools import with_pools  # as above

    layers = with_pools(network, [(unit, form)]).layers[unit.first : unit.last + 1]
    return {
        "layers": [unit.first, unit.last],
        "geometry": " → ".join(layer.geometry for layer in layers),
        "choice": choice_name(form),
        "live_bytes": unit.live,
        "workspace_bytes": form.workspace,
        "packed_bytes": form.weights,
        "microseconds": form.cost / 1e6,
    }
