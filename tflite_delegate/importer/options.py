"""What a module does with every option of every TFLite operator.

:data:`OPERATORS` has an entry for each operator that can become a part of a module, with a decision
for each field of its options; :data:`REFUSED` has the others and why. An operator in neither, a
value that no decision allows and an option that a newer schema has are refused by name: what
reaches the module means what it means to TFLite.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import tflite

from schedules.errors import LeanconvError


@dataclass(frozen=True)
class Honoured:
    """The operator's conversion does what the option says."""


@dataclass(frozen=True)
class Ignored:
    """The option has no effect on what a module computes; ``reason`` says why."""

    reason: str


@dataclass(frozen=True)
class Only:
    """One of ``values`` is honoured, the rest refused; ``names`` is the enum that names them."""

    values: tuple[Any, ...]
    names: str = ""


@dataclass(frozen=True)
class Unset:
    """Our schema has no such field: a model that sets it is refused."""


Decision = Honoured | Ignored | Only | Unset


@dataclass(frozen=True)
class Operator:
    """One operator: the table of its options in the schema, if it has any, and the decisions."""

    table: str | None
    decisions: Mapping[str, Decision]


#: The options of one node, by the schema's names.
Options = Mapping[str, Any]

_HONOURED = Honoured()
#: TFLite's kernels take TANH and SIGN_BIT and compute nothing.
_ACTIVATION = Only((0, 1, 2, 3), "ActivationFunctionType")
_NO_ACTIVATION = Only((0,), "ActivationFunctionType")
_IN_FLOAT32 = Ignored("codes are dequantised, and sums are of float32")
_FROM_TENSORS = Ignored("the types of the tensors say so, to TFLite too")


def _without_options(names: str) -> Mapping[str, Operator]:
    return dict.fromkeys(names.split(), Operator(None, {}))


def _with(table: str, **decisions: Decision) -> Operator:
    return Operator(table, decisions)


def _honoured(table: str, fields: str) -> Operator:
    return Operator(table, dict.fromkeys(fields.split(), _HONOURED))


_WINDOW: Mapping[str, Decision] = {
    "padding": Only((0, 1), "Padding"),
    "strideW": _HONOURED,
    "strideH": _HONOURED,
}
_DILATION: Mapping[str, Decision] = {"dilationWFactor": _HONOURED, "dilationHFactor": _HONOURED}
_POOL = _with(
    "Pool2DOptions",
    **_WINDOW,
    filterWidth=_HONOURED,
    filterHeight=_HONOURED,
    fusedActivationFunction=_ACTIVATION,
)
_REDUCER = _honoured("ReducerOptions", "keepDims")
_INDEX_TYPE = Only((2, 4), "TensorType")
_POT = Ignored("the real value is the same whether scales are powers of two or not")

OPERATORS: Mapping[str, Operator] = {
    **_without_options(
        """
        ABS ADD_N ASSIGN_VARIABLE ATAN2 BATCH_TO_SPACE_ND BITWISE_XOR BROADCAST_TO CEIL
        COMPLEX_ABS COS DEQUANTIZE DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS
        FILL FLOOR FLOOR_DIV FLOOR_MOD GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IMAG LESS
        LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MATRIX_DIAG
        MATRIX_SET_DIAG MAXIMUM MINIMUM NEG NOT_EQUAL PAD PADV2 POW PRELU QUANTIZE RANGE RANK
        READ_VARIABLE REAL RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 REVERSE_V2 RFFT2D RIGHT_SHIFT ROUND
        RSQRT SCATTER_ND SELECT SELECT_V2 SIGN SIN SLICE SPACE_TO_BATCH_ND SQRT SQUARE
        SQUARED_DIFFERENCE TANH TILE TOPK_V2 TRANSPOSE ZEROS_LIKE
        """
    ),
    # Layers
    "CONV_2D": _with(
        "Conv2DOptions",
        **_WINDOW,
        **_DILATION,
        fusedActivationFunction=_ACTIVATION,
        quantizedBiasType=_IN_FLOAT32,
    ),
    "CONV_3D": _with(
        "Conv3DOptions",
        **_WINDOW,
        **_DILATION,
        strideD=_HONOURED,
        dilationDFactor=_HONOURED,
        fusedActivationFunction=_ACTIVATION,
    ),
    "DEPTHWISE_CONV_2D": _with(
        "DepthwiseConv2DOptions",
        **_WINDOW,
        **_DILATION,
        depthMultiplier=Ignored("weights and image say it, to TFLite too"),
        fusedActivationFunction=_ACTIVATION,
    ),
    "TRANSPOSE_CONV": _with(
        "TransposeConvOptions",
        **_WINDOW,
        fusedActivationFunction=_ACTIVATION,
        quantizedBiasType=_IN_FLOAT32,
    ),
    "FULLY_CONNECTED": _with(
        "FullyConnectedOptions",
        fusedActivationFunction=_ACTIVATION,
        weightsFormat=Only((0,), "FullyConnectedOptionsWeightsFormat"),
        keepNumDims=_HONOURED,
        asymmetricQuantizeInputs=_HONOURED,
        quantizedBiasType=_IN_FLOAT32,
        quantSpec=Unset(),
    ),
    "BATCH_MATMUL": _with(
        "BatchMatMulOptions",
        adjX=_HONOURED,
        adjY=_HONOURED,
        asymmetricQuantizeInputs=_IN_FLOAT32,
    ),
    # Windows
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "L2_POOL_2D": _POOL,
    "L2_NORMALIZATION": _with("L2NormOptions", fusedActivationFunction=_NO_ACTIVATION),
    "LOCAL_RESPONSE_NORMALIZATION": _honoured(
        "LocalResponseNormalizationOptions", "radius bias alpha beta"
    ),
    "RESIZE_BILINEAR": _honoured("ResizeBilinearOptions", "alignCorners halfPixelCenters"),
    "RESIZE_NEAREST_NEIGHBOR": _honoured(
        "ResizeNearestNeighborOptions", "alignCorners halfPixelCenters"
    ),
    # Elements
    "ADD": _with("AddOptions", fusedActivationFunction=_ACTIVATION, potScaleInt16=_POT),
    "SUB": _with("SubOptions", fusedActivationFunction=_ACTIVATION, potScaleInt16=_POT),
    "MUL": _with("MulOptions", fusedActivationFunction=_ACTIVATION),
    "DIV": _with("DivOptions", fusedActivationFunction=_ACTIVATION),
    "BUCKETIZE": _honoured("BucketizeOptions", "boundaries"),
    "CAST": _with("CastOptions", inDataType=_FROM_TENSORS, outDataType=_FROM_TENSORS),
    "FAKE_QUANT": _with(
        "FakeQuantOptions",
        min=_HONOURED,
        max=_HONOURED,
        numBits=_HONOURED,
        narrowRange=Only((False,)),
    ),
    "GELU": _honoured("GeluOptions", "approximate"),
    "LEAKY_RELU": _honoured("LeakyReluOptions", "alpha"),
    "SOFTMAX": _honoured("SoftmaxOptions", "beta"),
    # Reductions
    "MEAN": _REDUCER,
    "SUM": _REDUCER,
    "REDUCE_ALL": _REDUCER,
    "REDUCE_ANY": _REDUCER,
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "REDUCE_PROD": _REDUCER,
    "ARG_MAX": _with("ArgMaxOptions", outputType=_INDEX_TYPE),
    "ARG_MIN": _with("ArgMinOptions", outputType=_INDEX_TYPE),
    "CUMSUM": _honoured("CumsumOptions", "exclusive reverse"),
    # Movement
    "CONCATENATION": _with(
        "ConcatenationOptions", axis=_HONOURED, fusedActivationFunction=_NO_ACTIVATION
    ),
    "DEPTH_TO_SPACE": _honoured("DepthToSpaceOptions", "blockSize"),
    "MIRROR_PAD": _with("MirrorPadOptions", mode=Only((0, 1), "MirrorPadMode")),
    "PACK": _honoured("PackOptions", "valuesCount axis"),
    "RESHAPE": _honoured("ReshapeOptions", "newShape"),
    "REVERSE_SEQUENCE": _honoured("ReverseSequenceOptions", "seqDim batchDim"),
    "SHAPE": _with("ShapeOptions", outType=_INDEX_TYPE),
    "SPACE_TO_DEPTH": _honoured("SpaceToDepthOptions", "blockSize"),
    "SPLIT": _honoured("SplitOptions", "numSplits"),
    "SPLIT_V": _honoured("SplitVOptions", "numSplits"),
    "SQUEEZE": _honoured("SqueezeOptions", "squeezeDims"),
    "STRIDED_SLICE": _honoured(
        "StridedSliceOptions", "beginMask endMask ellipsisMask newAxisMask shrinkAxisMask offset"
    ),
    "UNPACK": _honoured("UnpackOptions", "num axis"),
    # Indexing by data
    "GATHER": _honoured("GatherOptions", "axis batchDims"),
    "ONE_HOT": _honoured("OneHotOptions", "axis"),
    # Other graphs, and variables that one of them sets before the first run
    "CALL_ONCE": _honoured("CallOnceOptions", "initSubgraphIndex"),
    "IF": _honoured("IfOptions", "thenSubgraphIndex elseSubgraphIndex"),
    "VAR_HANDLE": _honoured("VarHandleOptions", "container sharedName"),
}

#: Operators that are refused, by the reason.
_REASONS = {
    "networks with a state are not supported: unroll the recurrence before converting": """
        BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN LSTM RNN SVDF
        UNIDIRECTIONAL_SEQUENCE_LSTM UNIDIRECTIONAL_SEQUENCE_RNN
    """,
    "how often it runs which graph is not known before the model runs": "CALL WHILE",
    "the shape of its result depends on its input's values": """
        NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SEGMENT_SUM UNIQUE WHERE
    """,
    "tables and strings are not supported": """
        CONCAT_EMBEDDINGS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE
        LSH_PROJECTION SKIP_GRAM
    """,
    "a module draws no random numbers": "MULTINOMIAL RANDOM_STANDARD_NORMAL RANDOM_UNIFORM",
    "a constant is expected in its place": "BROADCAST_ARGS DENSIFY",
    "it is no operator of a model": "CUSTOM DELEGATE PLACEHOLDER_FOR_GREATER_OP_CODES",
    "no conversion that agrees with TFLite is known": """
        BITCAST CONV_3D_TRANSPOSE DILATE EMBEDDING_LOOKUP_SPARSE REDUCE_WINDOW
        SPARSE_TO_DENSE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD
        UNSORTED_SEGMENT_SUM
    """,
    "StableHLO operators are not supported": " ".join(
        name for name in vars(tflite.BuiltinOperator) if name.startswith("STABLEHLO_")
    ),
}
#: Why each operator is refused that is.
REFUSED: Mapping[str, str] = {
    name: reason for reason, names in _REASONS.items() for name in names.split()
}


def read_options(name: str, node: tflite.Operator) -> Options:
    """The options of a ``node`` of operator ``name``; those that it leaves out have defaults.

    Raises
    ------
    LeanconvError
        That names an option, its value and what would be taken, or says why the operator is
        refused.
    """
    if name not in OPERATORS:
        raise LeanconvError(REFUSED.get(name, "custom and unknown operators are not supported"))
    operator = OPERATORS[name]
    if operator.table is None:
        return {}
    reader = _reader(operator.table)
    table = node.BuiltinOptions()
    if table is None:
        reader.Init(_EMPTY, flatbuffers.encode.Get(flatbuffers.packer.uoffset, _EMPTY, 0))
    else:
        kinds = {value: kind for kind, value in vars(tflite.BuiltinOptions).items()}
        kind = kinds[node.BuiltinOptionsType()]
        if kind != operator.table:
            raise LeanconvError(f"its options are {kind}, not {operator.table}")
        reader.Init(table.Bytes, table.Pos)
    first = _slots(operator.table)
    if any(reader._tab.Offset(4 + 2 * slot) for slot in range(first, first + _NEWER)):
        raise LeanconvError("it has an option that this version does not know")
    known = [field for field, d in operator.decisions.items() if not isinstance(d, Unset)]
    values = {field: _value(reader, field) for field in known}
    for field, value in values.items():
        _check(field, value, operator.decisions[field])
    return values


def _empty_table() -> bytes:
    builder = flatbuffers.Builder(16)
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


#: A table of options with nothing in it: all have their defaults.
_EMPTY = _empty_table()
#: Fields behind those of our schema that are looked for.
_NEWER = 16


def _reader(table: str) -> Any:
    found = getattr(tflite, table)
    return (getattr(found, table) if inspect.ismodule(found) else found)()


def _slots(table: str) -> int:
    """How many fields our schema's ``table`` has, deprecated ones too."""
    counts: list[int] = []
    getattr(tflite, f"{table}Start")(SimpleNamespace(StartObject=counts.append))
    return counts[0]


def _value(reader: Any, field: str) -> Any:
    name = field[0].upper() + field[1:]
    array = getattr(reader, f"{name}AsNumpy", None)
    if array is None:
        return getattr(reader, name)()
    values = array()
    return () if isinstance(values, int) else tuple(values.tolist())


def _check(field: str, value: Any, decision: Decision) -> None:
    if not isinstance(decision, Only) or value in decision.values:
        return
    kinds = vars(getattr(tflite, decision.names)) if decision.names else {}
    names = {number: name for name, number in kinds.items() if isinstance(number, int)}
    taken = " or ".join(str(names.get(number, number)) for number in decision.values)
    raise LeanconvError(f"{field} {names.get(value, value)} is not supported, only {taken}")
