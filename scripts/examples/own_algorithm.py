"""An algorithm of your own, in use: ``padded`` multiplies a copy of the image with its border."""

from dataclasses import replace

from tvm import s_tir, topi

import tvmc
from schedules.algorithms import REGISTRY, indirect
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import ImagePatches, Patches
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd
from scripts.models.make import ensure


class Padded(indirect.Indirect):
    """Has the packed weights of ``indirect`` and its knobs, and one of its own."""

    name, source = "padded", "this example"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> dict[str, Knob]:
        """``pixels`` are copied at a time; the tuner tries each choice, and learns from it."""
        return {**super().knobs(workload, simd), "pixels": Knob("pixels", (1, 2, 4), default=1)}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Those of the copy: ``N (H + pads) (W + pads) C`` elements."""
        return padded(workload).input_bytes

    def patches(self, source: ImagePatches) -> Patches:
        """Where they lie in the copy, block ``P``."""
        layer = source.workload
        before = (0, layer.pad_top, layer.pad_left * layer.in_channels)
        after = (0, layer.pad_bottom, layer.pad_right * layer.in_channels)
        copy = topi.nn.pad(source.source, before, after, name="P")
        return replace(source, workload=padded(layer), source=copy)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """Copy (stage 0), then product (stage 1); threads share both."""
        schedule, _ = self.convolve(workload, simd, knobs, stage=1)
        _, row, column = schedule.get_loops(schedule.get_sblock("P"))
        schedule.split(column, [None, knobs["pixels"] * workload.in_channels])
        mark_stage(schedule, row, 0)
        return schedule


def padded(layer: Conv2dWorkload) -> Conv2dWorkload:
    """The same layer on an image that has its border already."""
    rows, columns = layer.pad_top + layer.pad_bottom, layer.pad_left + layer.pad_right
    image = replace(layer, in_height=layer.in_height + rows, in_width=layer.in_width + columns)
    return replace(image, pad_top=0, pad_bottom=0, pad_left=0, pad_right=0)


REGISTRY.add(Padded())  # the processes in which layers are compiled run this line too
if __name__ == "__main__":
    library = (model := ensure(["conv-56x56x64-3x3-64"])[0]).with_suffix(".so")
    (layer,) = tvmc.compile(model, output=library, algorithms=["padded"]).layers
    (ours,), (xnnpack,) = (tvmc.run(model, delegate=d).outputs.values() for d in (library, None))
    print(f"padded: {layer.workspace_bytes} bytes; off XNNPACK by {abs(ours - xnnpack).max():.1g}")
