"""What a kernel's work costs, in multiply-accumulates: the planner's model of time."""

from __future__ import annotations

#: Multiply-accumulates in the time of moving one element: on x86-64, 4 to 10 were measured for what
#: im2col, MEC and Winograd's transforms move.
MOVE_COST = 6
#: The same for reading one weight from the L3 cache: 2 to 3, as the processor sees them coming.
WEIGHT_COST = 3
#: The same for a tensor between layers that the L2 cache does not hold: written once, read once.
SPILL_COST = 6
