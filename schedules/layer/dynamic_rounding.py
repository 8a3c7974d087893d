"""How a kernel quantises a float image by its range, and what it makes of the sums: rules by name.

:mod:`schedules.kernel.hybrid` has their arithmetic.
"""

DYNAMIC_ROUNDINGS = (
    "xnn_qd8_fused",
    "xnn_qd8_fused_rows",
    "xnn_qd8",
    "xnn_qp8",
    "builtin_depthwise",
    "builtin_asymmetric",
    "builtin_symmetric",
    "builtin_asymmetric_rows",
    "builtin_symmetric_rows",
    "builtin_asymmetric_rows_fused",
    "builtin_symmetric_rows_fused",
    "reference_asymmetric",
)
