"""How far long work is, told to whoever asked."""

from __future__ import annotations

from collections.abc import Callable

#: Called with how many pieces of work are done, how many there are, and which is at hand.
Progress = Callable[[int, int, str], None]
