"""Automatic tuning: measure kernels on the target, learn from it, and keep what was found.

From the ground up: :mod:`candidate` and :mod:`space` (what can be tried for one task) ·
:mod:`records` (what was measured, a line a trial) · :mod:`features`, :mod:`cost_model` and
:mod:`search` (what to try next) · :mod:`problem`, :mod:`builder`, :mod:`program` and
:mod:`runners` (build it, run it on a board) · :mod:`measure` (all of that for one batch) ·
:mod:`budget` and :mod:`tuner` (a whole model) · :mod:`transfer` and :mod:`advice` (what to
compile, given records).
"""
