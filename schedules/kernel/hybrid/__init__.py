"""Hybrid layers: floats that a kernel quantises by their range, and multiplies by int8 weights.

The first stages of a kernel find the range of each image, or of each row of a matrix, and write its
int8; what sums products of integers is then the same as for models of int8 elements. A line here
serves every algorithm that has such sums.
"""

from schedules.kernel.hybrid.constants import DynamicConstants
from schedules.kernel.hybrid.rules import RULES, Rule

__all__ = ["RULES", "DynamicConstants", "Rule"]
