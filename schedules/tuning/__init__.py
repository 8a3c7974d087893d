"""Automatic tuning: measure kernels on the target, learn from it, and keep what was found.

From the ground up:

- :mod:`records`: candidates and tasks, what was measured, a line a trial, and on which board;
- :mod:`boards`: where programs run;
- :mod:`search`: what to try next; :mod:`measure`: building candidates and running them on a board;
- a whole model: :mod:`budget`, :mod:`tuner`;
- what to compile, given records: :mod:`transfer`, :mod:`advice`.
"""
