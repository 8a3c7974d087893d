"""The binary interface that the delegate declares is TFLite's own.

No package carries TFLite's current headers, so what they say stands here as facts: values of
enumerators, offsets in bytes on 64-bit machines, and the fields of the parameters of nodes. They
are those of ``core/c/common.h``, ``core/c/c_api_types.h`` and ``core/c/builtin_op_data.h`` in
TensorFlow 2.14 to LiteRT 2.3. Numbers of operators are the schema's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

import tflite_delegate
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain

HEADER = Path(tflite_delegate.__file__).parent / "csrc" / "host" / "tflite_abi.h"
TEXT = re.sub(r"//.*", "", HEADER.read_text())

#: By the names in the header; more than it has, for what is yet to come.
ENUMERATORS: Mapping[str, int] = {
    # TfLiteStatus
    "TFL_OK": 0, "TFL_ERROR": 1, "TFL_DELEGATE_ERROR": 2,
    # TfLiteType
    "TFL_FLOAT32": 1, "TFL_INT32": 2, "TFL_UINT8": 3, "TFL_INT64": 4, "TFL_STRING": 5,
    "TFL_BOOL": 6, "TFL_INT16": 7, "TFL_INT8": 9, "TFL_FLOAT16": 10, "TFL_FLOAT64": 11,
    # TfLiteQuantizationType
    "TFL_NO_QUANTIZATION": 0, "TFL_AFFINE_QUANTIZATION": 1, "TFL_BLOCKWISE_QUANTIZATION": 2,
    # TfLiteAllocationType
    "TFL_MMAP_RO": 1, "TFL_ARENA_RW": 2, "TFL_ARENA_RW_PERSISTENT": 3, "TFL_DYNAMIC": 4,
    "TFL_PERSISTENT_RO": 5, "TFL_CUSTOM": 6,
    # TfLitePadding
    "TFL_PADDING_SAME": 1, "TFL_PADDING_VALID": 2,
    # TfLiteMirrorPaddingMode
    "TFL_MIRROR_REFLECT": 1, "TFL_MIRROR_SYMMETRIC": 2,
    # TfLiteFusedActivation
    "TFL_ACTIVATION_NONE": 0, "TFL_ACTIVATION_RELU": 1, "TFL_ACTIVATION_RELU_N1_TO_1": 2,
    "TFL_ACTIVATION_RELU6": 3, "TFL_ACTIVATION_TANH": 4, "TFL_ACTIVATION_SIGN_BIT": 5,
    "TFL_ACTIVATION_SIGMOID": 6,
    # TfLiteInPlaceOp
    "TFL_INPLACE_DATA_UNMODIFIED": 1, "TFL_INPLACE_INPUT_0": 4, "TFL_INPLACE_INPUT_1": 8,
    "TFL_INPLACE_INPUT_2": 16,
    # TfLiteDimensionType
    "TFL_DIM_DENSE": 0, "TFL_DIM_SPARSE_CSR": 1,
    # kTfLiteOptionalTensor, TfLiteDelegateFlags
    "TFL_OPTIONAL_TENSOR": -1, "TFL_DELEGATE_ALLOW_DYNAMIC_TENSORS": 1,
}  # fmt: skip

#: The field at each offset, and the size.
LAYOUTS: Mapping[str, tuple[Mapping[str, int], int]] = {
    "tfl_ints": ({"size": 0, "data": 4}, 4),  # TfLiteIntArray
    "tfl_floats": ({"size": 0, "data": 4}, 4),  # TfLiteFloatArray
    "tfl_affine_quantization": (  # TfLiteAffineQuantization
        {"scale": 0, "zero_point": 8, "quantized_dimension": 16},
        24,
    ),
    "tfl_dim_metadata": (  # TfLiteDimensionMetadata
        {"format": 0, "dense_size": 4, "array_segments": 8, "array_indices": 16},
        24,
    ),
    "tfl_sparsity": (  # TfLiteSparsity
        {"traversal_order": 0, "block_map": 8, "dim_metadata": 16, "dim_metadata_size": 24},
        32,
    ),
    "tfl_tensor": (  # TfLiteTensor
        {
            "type": 0, "data": 8, "dims": 16, "params.scale": 24, "params.zero_point": 28,
            "allocation_type": 32, "bytes": 40, "allocation": 48, "name": 56, "delegate": 64,
            "buffer_handle": 72, "data_is_stale": 76, "is_variable": 77, "quantization.type": 80,
            "quantization.params": 88, "sparsity": 96, "dims_signature": 104,
        },
        112,
    ),
    "tfl_node": (  # TfLiteNode
        {
            "inputs": 0, "outputs": 8, "intermediates": 16, "temporaries": 24, "user_data": 32,
            "builtin_data": 40, "custom_initial_data": 48, "custom_initial_data_size": 56,
            "delegate": 64, "might_have_side_effect": 72,
        },
        80,
    ),
    "tfl_registration": (  # TfLiteRegistration
        {
            "init": 0, "free": 8, "prepare": 16, "invoke": 24, "profiling_string": 32,
            "builtin_code": 40, "custom_name": 48, "version": 56, "registration_external": 64,
            "async_kernel": 72, "inplace_operator": 80,
        },
        88,
    ),
    "tfl_registration_argument": ({"registration": 0, "zeros": 88}, 152),  # our own
    "tfl_delegate_params": (  # TfLiteDelegateParams
        {"delegate": 0, "nodes_to_replace": 8, "input_tensors": 16, "output_tensors": 24},
        32,
    ),
    "tfl_delegate": (  # TfLiteDelegate
        {
            "data_": 0, "Prepare": 8, "CopyFromBufferHandle": 16, "CopyToBufferHandle": 24,
            "FreeBufferHandle": 32, "flags": 40, "opaque_delegate_builder": 48,
        },
        56,
    ),
    "tfl_context": (  # TfLiteContext, as far as it is declared
        {
            "tensors_size": 0, "GetExecutionPlan": 8, "tensors": 16, "impl_": 24,
            "ResizeTensor": 32, "ReportError": 40, "AddTensors": 48, "GetNodeAndRegistration": 56,
            "ReplaceNodeSubsetsWithDelegateKernels": 64, "recommended_num_threads": 72,
            "GetExternalContext": 80, "SetExternalContext": 88, "allow_fp32_relax_to_fp16": 96,
            "profiler": 104, "only_in_micro_runtime": 112, "ResizeTensorExplicit": 144,
            "PreviewDelegatePartitioning": 152,
        },
        160,
    ),
}  # fmt: skip

#: TFLite's parameters of nodes: each field's type (enumerations are ``int``) and name.
PARAMS: Mapping[str, str] = {
    "TfLiteConvParams": "int padding, int stride_width, int stride_height, int activation, "
    "int dilation_width_factor, int dilation_height_factor, int quantized_bias_type",
    "TfLiteConv3DParams": "int padding, int stride_width, int stride_height, int stride_depth, "
    "int dilation_width_factor, int dilation_height_factor, int dilation_depth_factor, "
    "int activation",
    "TfLiteDepthwiseConvParams": "int padding, int stride_width, int stride_height, "
    "int depth_multiplier, int activation, int dilation_width_factor, int dilation_height_factor",
    "TfLiteFullyConnectedParams": "int activation, int weights_format, bool keep_num_dims, "
    "bool asymmetric_quantize_inputs, int quantized_bias_type",
    "TfLiteTransposeConvParams": "int padding, int stride_width, int stride_height, "
    "int activation, int quantized_bias_type",
    "TfLitePoolParams": "int padding, int stride_width, int stride_height, int filter_width, "
    "int filter_height, int activation",
    "TfLiteAddParams": "int activation, bool pot_scale_int16",
    "TfLiteSubParams": "int activation, bool pot_scale_int16",
    "TfLiteMulParams": "int activation",
    "TfLiteDivParams": "int activation",
    "TfLiteReducerParams": "bool keep_dims",
    "TfLiteSoftmaxParams": "float beta",
    "TfLiteLeakyReluParams": "float alpha",
    "TfLiteConcatenationParams": "int axis, int activation",
    "TfLiteReshapeParams": "int shape[8], int num_dimensions",
    "TfLiteSqueezeParams": "int squeeze_dims[8], int num_squeeze_dims",
    "TfLiteResizeBilinearParams": "bool align_corners, bool half_pixel_centers",
    "TfLiteResizeNearestNeighborParams": "bool align_corners, bool half_pixel_centers",
    "TfLiteStridedSliceParams": "int begin_mask, int end_mask, int ellipsis_mask, "
    "int new_axis_mask, int shrink_axis_mask, bool offset",
    "TfLiteMirrorPaddingParams": "int mode",
    "TfLiteSplitParams": "int num_splits",
    "TfLiteSplitVParams": "int num_splits",
    "TfLitePackParams": "int values_count, int axis",
    "TfLiteUnpackParams": "int num, int axis",
    "TfLiteDepthToSpaceParams": "int block_size",
    "TfLiteSpaceToDepthParams": "int block_size",
    "TfLiteGatherParams": "int axis, int batch_dims",
    "TfLiteL2NormParams": "int activation",
    "TfLiteGeluParams": "bool approximate",
    "TfLiteBatchMatMulParams": "bool adj_x, bool adj_y, bool asymmetric_quantize_inputs",
    "TfLiteCastParams": "int in_data_type, int out_data_type",
}
#: Whose parameters a struct of the header are; one that is not named here may be anybody's.
OWNERS: Mapping[str, Sequence[str]] = {
    "tfl_conv_params": ["TfLiteConvParams"],
    "tfl_conv_3d_params": ["TfLiteConv3DParams"],
    "tfl_batch_matmul_params": ["TfLiteBatchMatMulParams"],
    "tfl_depthwise_params": ["TfLiteDepthwiseConvParams"],
    "tfl_dense_params": ["TfLiteFullyConnectedParams"],
    "tfl_arithmetic_params": [f"TfLite{name}Params" for name in ("Add", "Sub", "Mul", "Div")],
    "tfl_pool_params": ["TfLitePoolParams"],
    "tfl_reducer_params": ["TfLiteReducerParams"],
    "tfl_softmax_params": ["TfLiteSoftmaxParams"],
    "tfl_leaky_relu_params": ["TfLiteLeakyReluParams"],
    "tfl_concatenation_params": ["TfLiteConcatenationParams"],
    "tfl_reshape_params": ["TfLiteReshapeParams"],
    "tfl_squeeze_params": ["TfLiteSqueezeParams"],
    "tfl_block_params": ["TfLiteDepthToSpaceParams", "TfLiteSpaceToDepthParams"],
    "tfl_resize_params": ["TfLiteResizeBilinearParams", "TfLiteResizeNearestNeighborParams"],
    "tfl_mirror_pad_params": ["TfLiteMirrorPaddingParams"],
    "tfl_pack_params": ["TfLitePackParams"],
    "tfl_unpack_params": ["TfLiteUnpackParams"],
    "tfl_strided_slice_params": ["TfLiteStridedSliceParams"],
}


def enumerators() -> dict[str, int]:
    """Every enumerator that the header defines."""
    bodies = re.findall(r"\benum\b[^{};]*\{([^}]*)\}", TEXT)
    found = [re.findall(r"(\w+)\s*=\s*(-?\d+)", body) for body in bodies]
    assert sum(len(entries) for entries in found) == sum(
        len([entry for entry in body.split(",") if entry.strip()]) for body in bodies
    )
    return {name: int(value) for entries in found for name, value in entries}


def struct_names() -> list[str]:
    """Every struct that the header defines."""
    return re.findall(r"^struct (\w+) \{", TEXT, re.MULTILINE)


def fields_of(struct: str) -> list[str]:
    """Type and name of each field of a flat struct."""
    match = re.search(rf"^struct {struct} {{(.*?)^}};", TEXT, re.MULTILINE | re.DOTALL)
    assert match
    return [" ".join(field.split()) for field in match[1].split(";") if field.strip()]


def test_enumerators() -> None:
    found = enumerators()
    assert len(found) >= 50
    for name, value in found.items():
        if name.startswith("TFL_BUILTIN_"):
            code = getattr(schema.BuiltinOperator, name.removeprefix("TFL_BUILTIN_"))
            assert value == code, name
        else:
            assert value == ENUMERATORS[name], name


def test_activations_are_the_schemas() -> None:
    """TFLite copies these numbers from the file."""
    for name, value in vars(schema.ActivationFunctionType).items():
        if not name.startswith("_"):
            assert ENUMERATORS[f"TFL_ACTIVATION_{name}"] == value


@pytest.mark.parametrize("struct", [name for name in struct_names() if name not in LAYOUTS])
def test_parameters_of_nodes(struct: str) -> None:
    """They are TFLite's, up to fields at the end that nobody needs."""
    fields = fields_of(struct)
    assert fields
    matches = [owner for owner, text in PARAMS.items() if text.split(", ")[: len(fields)] == fields]
    assert matches, f"{struct} is the beginning of no parameters of TFLite's"
    assert set(OWNERS.get(struct, [])) <= set(matches)


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a53"])
def test_layouts(tmp_path: Path, machine: str) -> None:
    """Offsets and sizes, by the compiler that builds delegates."""
    assert set(LAYOUTS) | set(OWNERS) <= set(struct_names())
    lines = ['#include "host/tflite_abi.h"', "int answer(void);", "int answer(void) { return 42; }"]
    for struct, (offsets, size) in LAYOUTS.items():
        lines.append(f'_Static_assert(sizeof(struct {struct}) == {size}, "{struct}");')
        for field, offset in offsets.items():
            fact = f"offsetof(struct {struct}, {field}) == {offset}"
            lines.append(f'_Static_assert({fact}, "{struct}.{field}");')
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "tflite_abi.h").write_text(HEADER.read_text())
    (tmp_path / "facts.c").write_text("\n".join(lines) + "\n")
    (tmp_path / "exports.map").write_text("{ global: answer; local: *; };\n")
    toolchain = Toolchain.default()
    simd = Simd.named(machine)
    toolchain.link_library(tmp_path, ["facts.c"], [], tmp_path / "libfacts.so", simd)
    assert (tmp_path / "libfacts.so").stat().st_size > 0
