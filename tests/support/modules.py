"""Small TVM modules, packed as `tvmc compile` packs them, with numpy as their reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te

from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import Toolchain
from tvmc.compiling.package import KernelInfo, Metadata, TensorInfo, with_metadata

HOST = Simd.named("host")
#: A processor that this machine is not.
FOREIGN = PRESETS["x86-64-v3" if HOST.arch == "aarch64" else "cortex-a76"]
#: Of :func:`mixed`, whose function `add` passes for one of ours.
METADATA = Metadata(
    leanconv="1.2.3",
    tvm=tvm.__version__,
    model="mixed.tflite",
    target="host",
    tvm_target=HOST.target,
    inputs=(TensorInfo("image", (2, 3), "float32"), TensorInfo("codes:0", (4,), "int8")),
    outputs=(TensorInfo("sum", (2, 3), "float32"), TensorInfo("largest", (4,), "int8")),
    kernels={"add": KernelInfo("conv1x1 1x2x3->3", "indirect", 1536, 2048)},
)
FOREIGN_METADATA = replace(METADATA, target=FOREIGN.name, tvm_target=FOREIGN.target)


def mixed() -> tvm.IRModule:
    """Two inputs and two outputs, of float32 and of int8."""
    image = relax.Var("image", relax.TensorType((2, 3), "float32"))
    codes = relax.Var("codes", relax.TensorType((4,), "int8"))
    builder = relax.BlockBuilder()
    with builder.function("main", [image, codes]):
        with builder.dataflow():
            total = builder.emit(relax.op.add(image, relax.const(np.float32(0.5))))
            total = builder.emit(relax.op.multiply(total, total))
            largest = builder.emit(relax.op.maximum(codes, relax.const(np.int8(-3))))
            outputs = builder.emit_output(relax.Tuple([total, largest]))
        builder.emit_func_output(outputs)
    return builder.get()


def mixed_in_numpy(image: NDArray[Any], codes: NDArray[Any]) -> list[NDArray[Any]]:
    """What :func:`mixed` computes."""
    return [(image + np.float32(0.5)) ** 2, np.maximum(codes, np.int8(-3))]


def calling(function: str, *arguments: int) -> tvm.IRModule:
    """The difference of the one input and what the C library's ``function`` returns."""
    image = relax.Var("image", relax.TensorType((1,), "float32"))
    builder = relax.BlockBuilder()

    def compute(tensor: te.Tensor) -> te.Tensor:
        called = tvm.tirx.call_extern("int32", function, *arguments)
        return te.compute((1,), lambda i: tensor[i] - called.astype("float32"))

    with builder.function("inner", [image]):
        inner = builder.emit_func_output(builder.emit_te(compute, image))
    image = relax.Var("image", image.ty)
    with builder.function("main", [image]):
        builder.emit_func_output(builder.emit(inner(image)))
    return builder.get()


#: Of :func:`calling`.
CALLING_METADATA = replace(
    METADATA,
    inputs=(TensorInfo("image", (1,), "float32"),),
    outputs=(TensorInfo("difference", (1,), "float32"),),
    kernels={},
)


def compiled(
    path: Path, module: tvm.IRModule, metadata: Metadata | None, simd: Simd = HOST
) -> Path:
    """Compile ``module`` into the library ``path``; without ``metadata`` it is none of ours."""
    module = with_metadata(module, metadata) if metadata else module
    executable = tvm.compile(module, target=tvm.target.Target(simd.target))
    executable.export_library(str(path), fcompile=_linker(simd), workspace_dir=str(path.parent))
    return path


def _linker(simd: Simd) -> Callable[..., None]:
    def link(output: str, files: Sequence[str], **_: Any) -> None:
        target = ["-target", f"{simd.arch}-linux-gnu.2.17"]
        Toolchain.default().run([*target, "-shared", "-fPIC", "-O1", "-o", output, *files])

    return link
