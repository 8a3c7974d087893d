"""Searches by name."""

from __future__ import annotations

from schedules.errors import LeanconvError
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.evolution import GeneticSearch, GuidedSearch
from schedules.tuning.search.proposals import GridSearch, RandomSearch, Search
from schedules.tuning.search.space import Space
from schedules.tuning.search.tuners import TUNERS

__all__ = ["Search", "make_search"]


def make_search(name: str, space: Space, seed: int, model: CostModel | None = None) -> Search:
    """The search ``name`` of :data:`TUNERS`; ``model`` guides ``xgb``, the others need none.

    Whoever measures fits the model, which several searches share, and updates the search.

    Raises
    ------
    LeanconvError
        If no search has that name.
    """
    if name == "xgb":
        return GuidedSearch(space, seed, model or CostModel(space.simd, seed))
    if name == "ga":
        return GeneticSearch(space, seed)
    if name == "random":
        return RandomSearch(space, seed)
    if name == "gridsearch":
        return GridSearch(space, seed)
    raise LeanconvError(f"unknown search {name!r}: one of {', '.join(TUNERS)}")
