"""``tvmc`` from Python: a model is loaded, compiled for TVM's runtime, run, profiled and tuned."""

import tempfile
from pathlib import Path

import numpy as np

import tvmc
from scripts.models.make import ensure


def main(folder: Path) -> None:
    """Whatever is written goes to ``folder``."""
    (path,) = ensure(["conv-56x56x64-3x3-64"])
    model = tvmc.load(path)
    for layer in model.layers:
        print(f"{layer.geometry}: {layer.reason or 'leanconv takes it'}")
    (tensor,) = model.inputs
    inputs = {tensor.name: np.random.default_rng(0).random(tensor.shape, np.float32)}

    module = folder / "module.tar"
    report = tvmc.compile(model, output=module, output_format="tar")
    print(f"compiled: {report.layers[0].algorithm}, since {report.layers[0].why}")
    result = tvmc.run(module, inputs=inputs, repeat=10, profile=True)
    print(f"{result.runtime}: {min(result.times) * 1e3:.2f} ms")
    for row in result.profile:
        if row.kernel:  # the others are functions of TVM
            print(f"  {row.name}: {row.kernel.algorithm}, {row.kernel.workspace_bytes} bytes")

    # Hundreds of trials are usual. Those on record are not repeated: the next call goes on.
    records = folder / "this-machine"
    tuning = tvmc.tune(model, output=records, trials=2, tuner="random", repeat=3, parallel=1)
    print(f"{tuning.trials} trials on {tuning.board}: {tuning.tasks[0].algorithm}")

    tuned = folder / "tuned.tar"
    report = tvmc.compile(model, output=tuned, output_format="tar", tuning_records=[records])
    again = tvmc.run(tuned, inputs=inputs)
    difference = abs(again.outputs["output_0"] - result.outputs["output_0"]).max()
    print(f"compiled: {report.layers[0].tuning}; largest difference {difference:.1g}")


if __name__ == "__main__":  # not in the processes that compile and measure, which import this file
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
