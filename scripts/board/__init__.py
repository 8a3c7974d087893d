"""The emulated Arm board, the RPC server for real ones, and what times an emulated core.

A line here may touch QEMU, Debian's packages and zig; of this checkout, ``schedules`` and ``tvmc``.
"""
