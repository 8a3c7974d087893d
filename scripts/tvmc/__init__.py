"""Compile the convolutions of TFLite models into delegates, and tune them on the target.

``tvmc`` is the console command; :func:`compile` and :func:`tune` are what stands behind
``tvmc compile`` and ``tvmc tune``. :func:`load` reads a model for both.
"""

from schedules import __version__
from tvmc.compiling.compiler import compile
from tvmc.running.loader import load
from tvmc.running.runner import run
from tvmc.tuning.tuner import tune

__all__ = ["__version__", "compile", "load", "run", "tune"]
