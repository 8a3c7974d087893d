"""Names of the searches. Commands read this without importing TVM."""

from __future__ import annotations

#: The first is the default.
TUNERS = ("xgb", "ga", "random", "gridsearch")
