"""What a kernel's work costs, in multiply-accumulates: the planner's model of time."""

from __future__ import annotations

#: Multiply-accumulates in the time in which one element is moved. On x86-64, 4 to 10 were measured
#: for what im2col, MEC and Winograd's transforms move.
MOVE_COST = 6
#: Multiply-accumulates in the time in which one weight is read from the L3 cache: 2 to 3 were
#: measured, as the processor sees weights coming.
WEIGHT_COST = 3
#: Multiply-accumulates in the time in which one element is written to memory and read again, as is
#: done with a tensor between layers that the L2 cache does not hold.
SPILL_COST = 6
