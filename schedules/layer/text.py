"""How a layer is written in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from schedules.layer.rounding import DYNAMIC_ROUNDINGS, ROUNDINGS


def layer_pattern(activations: Iterable[str], types: Iterable[str]) -> re.Pattern[str]:
    """A group for each field, by its name, of layers with these activations and element types."""
    activation, dtype = "|".join(activations), "|".join(types)
    return re.compile(
        r"(?P<in_height>\d+)x(?P<in_width>\d+)x(?P<in_channels>\d+)->(?P<out_channels>\d+)"
        r" k(?P<kernel_height>\d+)x(?P<kernel_width>\d+)"
        r"(?: n(?P<batch>\d+))?"
        r"(?: s(?P<stride_height>\d+)x(?P<stride_width>\d+))?"
        r"(?: d(?P<dilation_height>\d+)x(?P<dilation_width>\d+))?"
        r"(?: p(?P<pad_top>\d+),(?P<pad_bottom>\d+),(?P<pad_left>\d+),(?P<pad_right>\d+))?"
        r"(?: g(?P<groups>\d+))?"
        r"(?: of(?P<group_of>\d+))?"
        rf"(?: (?P<activation>{activation}))?"
        rf"(?P<residual> \+(?: (?P<output_activation>{activation}))?)?"
        rf"(?: (?P<dtype>{dtype}))?"
        rf"(?: w(?P<weight_dtype>{dtype}))?"
        rf"(?: (?P<rounding>{'|'.join((*ROUNDINGS, *DYNAMIC_ROUNDINGS))}))?"
        r"(?: (?P<domain>f\d\S*))?"
        r"(?: z(?P<zeros>\d\d))?",
        re.ASCII,
    )
