"""TFLite's schema by names: element types, activations, and which options an operator has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
    "tanh": schema.ActivationFunctionType.TANH,
}
PADDINGS = {"SAME": schema.Padding.SAME, "VALID": schema.Padding.VALID}
TYPES = {name.lower(): value for name, value in vars(schema.TensorType).items() if name.isupper()}
#: Versions of operators that have a later first one, or of which a test needs one.
VERSIONS = {schema.BuiltinOperator.DEQUANTIZE: 3, schema.BuiltinOperator.BROADCAST_TO: 2}
#: Operators whose options are not named after them.
_SHARED = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "RANDOM_STANDARD_NORMAL": "RandomOptions",
    "RANDOM_UNIFORM": "RandomOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "SUM": "ReducerOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
}


def _options() -> dict[str, str]:
    tables = {name.lower(): name for name in vars(schema.BuiltinOptions)}
    operators = [name for name in vars(schema.BuiltinOperator) if name.isupper()]
    named = {name: tables.get(f"{name.replace('_', '')}Options".lower()) for name in operators}
    return {name: table for name, table in {**named, **_SHARED}.items() if table}


#: The options of operators that have any, by the name of their table in the schema.
OPTIONS = _options()


@dataclass(frozen=True)
class Quantization:
    """Real values are ``(codes - zero_point) * scale``; several scales count along ``axis``."""

    scale: float | Sequence[float]
    zero_point: int | Sequence[int] = 0
    axis: int = 0

    def table(self) -> Any:
        """As the schema has it."""
        table = schema.QuantizationParametersT()
        table.scale = np.atleast_1d(np.asarray(self.scale, np.float32))
        table.zeroPoint = np.atleast_1d(np.asarray(self.zero_point, np.int64))
        if table.zeroPoint.size < table.scale.size:
            table.zeroPoint = np.repeat(table.zeroPoint, table.scale.size)
        table.quantizedDimension = self.axis
        return table
