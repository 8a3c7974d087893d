"""The emulated Arm board, the RPC server for real ones, and what times an emulated core.

The emulated board is `cpus`, the `packages` that it is made of, the `board` that programs run on,
how they `count`, and the `command`. A line here may touch QEMU, Debian's packages and zig; of this
checkout, ``schedules`` and ``tvmc``.
"""
