"""Compile the convolutions of TFLite models into delegates for memory-limited Arm devices.

``tvmc`` is the console command; :func:`compile` is what stands behind ``tvmc compile``.
"""

from schedules import __version__
from tvmc.compiler import compile

__all__ = ["__version__", "compile"]
