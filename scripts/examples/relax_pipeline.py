"""leanconv's kernels in a Relax pipeline of your own, for a network that comes from anywhere.

The pass takes convolutions in NHWC with constant weights, so parameters are bound and layouts
converted before it. It says which layers it took, and of the others why not; those stay TVM's.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import Simd

SIMD = Simd.named("host")


class Network(nn.Module):  # type: ignore[misc]
    """Three convolutions and a residual connection, in NCHW as this front end writes them."""

    def __init__(self) -> None:
        self.first = nn.Conv2D(3, 32, 3, stride=2, padding=1)
        self.middle = nn.Conv2D(32, 32, 3, padding=1)
        self.last = nn.Conv2D(32, 10, 1)

    def forward(self, image: nn.Tensor) -> nn.Tensor:
        """Ten maps of half the size."""
        x = nn.op.relu(self.first(image))
        x = nn.op.add(x, nn.op.relu(self.middle(x)))
        return nn.op.softmax(self.last(x), axis=1)


def with_random_weights(shape: tuple[int, ...]) -> tvm.IRModule:
    """The network for images of ``shape``, its weights constants."""
    image = nn.spec.Tensor(shape, "float32")
    module, parameters = Network().export_tvm({"forward": {"image": image}})
    random = np.random.default_rng(0)
    values = {name: random.normal(0, 0.1, p.shape).astype(p.dtype) for name, p in parameters}
    return relax.transform.BindParams("forward", values)(module)


def show(report: FunctionReport) -> None:
    """What became of each layer."""
    for selected in report.selection.layers:
        layer = selected.layer
        if selected.kernels:
            print(f"  {layer.geometry}: {selected.kernels[0].plan.algorithm}")
        else:
            print(f"  {layer.op} is left to TVM: {selected.reason}")


def run(module: tvm.IRModule, image: np.ndarray) -> np.ndarray:
    """What TVM's virtual machine makes of ``image``."""
    executable = tvm.compile(module, tvm.target.Target(SIMD.target))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["forward"](tvm.runtime.tensor(image)).numpy()


if __name__ == "__main__":
    image = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    network = with_random_weights(image.shape)
    print("as it is:")
    schedule_convolutions(SIMD, report=show)(network)
    print("in NHWC:")
    pipeline = tvm.transform.Sequential(
        [
            relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "OHWI"]}),
            schedule_convolutions(SIMD, report=show),
            relax.transform.LegalizeOps(),
        ]
    )
    difference = abs(run(pipeline(network), image) - run(network, image)).max()
    print(f"largest difference to TVM's own: {difference:.1g}")
