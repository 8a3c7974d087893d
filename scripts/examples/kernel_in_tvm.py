"""A convolution algorithm in a TVM program of yours: as a TVM function, and as C functions.

An algorithm is TVM compute and a schedule; ``tvm.compile`` takes them as it takes any other. So
compiled, a kernel allocates what lies between its stages whenever it runs. ``compile_schedules``
makes C functions of the same schedule that need no runtime, with one workspace of known size.
"""

import ctypes
import tempfile
from pathlib import Path

import numpy as np
import tvm

from schedules.algorithms import REGISTRY
from schedules.kernel import packing
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.c_abi import compile_schedules
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain

SIMD = Simd.named("host")
ALGORITHM = REGISTRY.get("mec_strip")
LAYER = Conv2dWorkload.with_padding(
    "SAME",
    in_height=28, in_width=28, in_channels=32, out_channels=40, kernel_height=3, kernel_width=3,
)  # fmt: skip
KNOBS = ALGORITHM.default_knobs(LAYER, SIMD)


def convolution(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The definition, in double precision: NHWC image, OHWI weights."""
    image = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
    return np.einsum("nhwckl,oklc->nhwo", windows, weights, optimize=True) + bias


def call_in_tvm(*arguments: np.ndarray) -> np.ndarray:
    """``Y``, by a function in TVM's calling convention; its arguments are X, W, B and Y."""
    function = ALGORITHM.schedule(LAYER, SIMD, KNOBS).mod["main"]
    print("TVM:", ", ".join(f"{buffer.name} {list(buffer.shape)}" for buffer in function.params))
    library = tvm.compile(function, target=tvm.target.Target(SIMD.target))
    shapes = [tuple(map(int, buffer.shape)) for buffer in function.params]
    *tensors, output = [tvm.runtime.empty(shape, "float32") for shape in shapes]
    for tensor, argument in zip(tensors, arguments, strict=True):
        tensor.copyfrom(argument.reshape(tensor.shape))
    library["main"](*tensors, output)
    return output.numpy()


def call_in_c(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``Y``, by C functions, one a stage; a caller may share a stage's work among its threads."""
    compiled = compile_schedules({"strips": ALGORITHM.schedule(LAYER, SIMD, KNOBS)}, SIMD)
    kernel = compiled.kernels["strips"]
    print(f"C: {', '.join(s.symbol for s in kernel.stages)}; {kernel.workspace_bytes} bytes")
    with tempfile.TemporaryDirectory() as folder:
        kernel_object, library = Path(folder) / "strips.o", Path(folder) / "strips.so"
        kernel_object.write_bytes(compiled.data)
        Toolchain.default().link_module([str(kernel_object)], library, SIMD)
        functions = ctypes.CDLL(str(library))
    y = np.empty(LAYER.output_shape, np.float32)
    workspace = np.from_dlpack(tvm.runtime.empty((kernel.workspace_bytes,), "uint8"))  # aligned
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, weights, bias, y, workspace)]
    pointers.insert(1, ctypes.c_void_p())  # R: no residual is added
    for stage in kernel.stages:
        functions[stage.symbol](*pointers, 0, 0, stage.extent)  # thread 0 does all of it
    return y


if __name__ == "__main__":
    random = np.random.default_rng(0)
    sizes = LAYER.input_shape, LAYER.weight_shape, (LAYER.out_channels,)
    x, weights, bias = (random.uniform(-1, 1, size).astype(np.float32) for size in sizes)
    (part,) = ALGORITHM.packed_parts(LAYER, KNOBS)
    packed, packed_bias = packing.pack(weights, part), packing.pack_bias(bias, part)
    for call in (call_in_tvm, call_in_c):
        y = call(x, packed, packed_bias).reshape(LAYER.output_shape)
        print(f"largest difference to float64: {abs(y - convolution(x, weights, bias)).max():.1g}")
