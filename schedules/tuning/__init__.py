"""Automatic tuning: measure kernels on the target, learn from it, and keep what was found.

From the ground up:

- what can be tried for one task: :mod:`candidate`, :mod:`task`, :mod:`axes`, :mod:`space`;
- what was measured, a line a trial: :mod:`record`, :mod:`log`, :mod:`records`, :mod:`untuned`,
  :mod:`upkeep`; on which board: :mod:`board_info`;
- what to try next: :mod:`features`, :mod:`cost_model`, :mod:`proposals`, :mod:`evolution`,
  :mod:`search`;
- building it and running it on a board: :mod:`settings`, :mod:`problem`, :mod:`builder`,
  :mod:`program`, :mod:`runners`; all of that for some candidates: :mod:`measure`;
- a whole model: :mod:`budget`, :mod:`tuner`;
- what to compile, given records: :mod:`transfer`, :mod:`advice`.
"""
