"""The pages of the model's file that hold packed weights are given back to the system."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, run

MADV_PAGEOUT = 21
HUGE_PAGE = 2 << 20
SHAPE = (1, 10, 10, 512)
WEIGHTS_BYTES = 512 * 512 * 4
#: Of what is no weights, and of weights at the ends of pages.
OTHER_BYTES = 128 * 1024


def resident_bytes(path: Path) -> int:
    """Bytes of a file that are mapped into this process and in memory."""
    total, is_wanted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-", line):
            is_wanted = line.endswith(str(path))
        elif is_wanted and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def is_known(path: Path) -> bool:
    """Whether this system pages files out when it is told."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        before = sum(memory[:: mmap.PAGESIZE]), resident_bytes(path)
        try:
            memory.madvise(MADV_PAGEOUT)
        except OSError:
            return False
        return resident_bytes(path) < before[1] // 2


def model(shared: bool) -> bytes:
    """Two layers of 1 MiB of weights each, which the second may share with the first."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    rng = np.random.default_rng(0)
    outputs, constants = [], []
    for number in range(2):
        if number == 0 or not shared:
            weights = rng.uniform(-1, 1, (512, 1, 1, 512)).astype(np.float32)
            constants = [writer.constant(weights), writer.constant(np.zeros(512, np.float32))]
        conv = Conv(512, (1, 1), activation=("relu", "none")[number])
        outputs.append(writer.conv(x, SHAPE, conv, constants=constants)[0])
    return writer.finish([x], outputs)


@pytest.mark.parametrize("options", [{}, {"one_node": "1"}], ids=["nodes", "one_node"])
@pytest.mark.parametrize("shared", [False, True])
def test_packed_weights_leave_memory(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    tmp_path: Path,
    shared: bool,
    options: dict[str, str],
) -> None:
    """Weights of two layers stay: the second would have to read them from the file again."""
    path = tmp_path / "model.tflite"
    with path.open("wb") as file:
        file.write(model(shared))
        os.fsync(file.fileno())  # pages that are not written yet must stay
    pages_out = is_known(path)
    library = build_delegate(path.read_bytes())
    delegate = litert.load_delegate(str(library), options)
    interpreter, builtin = litert.open(path, delegate), litert.open(path.read_bytes())
    inputs: Sequence[np.ndarray] = random_inputs(builtin)
    interpreter.allocate_tensors()
    if not shared and pages_out:
        assert resident_bytes(path) <= OTHER_BYTES
    elif shared:
        assert resident_bytes(path) >= WEIGHTS_BYTES // 2
    for result, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
        assert np.abs(result - expected).max() <= 512 * 2**-23 * 512
    interpreter.resize_tensor_input(0, (1, 3, 4, 512))  # the generic kernel reads the file again
    builtin.resize_tensor_input(0, (1, 3, 4, 512))
    inputs = random_inputs(interpreter)
    for result, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
        assert np.abs(result - expected).max() <= 512 * 2**-23 * 512


#: Bytes of each region for which huge pages are asked, of a process that has opened a model, and
#: behind a 0 when it has closed it.
ADVISED = """
import sys
from ai_edge_litert.interpreter import Interpreter, load_delegate

def tell():
    for line in open("/proc/self/smaps"):
        name, *values = line.split()
        if name == "Size:":
            size = int(values[0]) * 1024
        elif name == "VmFlags:" and "hg" in values:
            print(size)

_, model, library = sys.argv
interpreter = Interpreter(model, experimental_delegates=[load_delegate(library)])
interpreter.allocate_tensors()
tell()
del interpreter
print(0)
tell()
"""


def test_weights_lie_in_huge_pages(build_delegate: Callable[..., Path], tmp_path: Path) -> None:
    """Those of several layers together: as many pages as lie within them, until they are freed."""
    shape, layers = (1, 10, 10, 512), 5  # each of half a page
    writer = ModelWriter()
    x = writer.tensor(shape)
    outputs = x
    for _ in range(layers):
        outputs = writer.conv(outputs, shape, Conv(shape[-1], (1, 1)))[0]
    path = tmp_path / "model.tflite"
    path.write_bytes(writer.finish([x], [outputs]))
    library = build_delegate(path.read_bytes())
    command = [sys.executable, "-c", ADVISED, str(path), str(library)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    advised = [size for size in map(int, output.split()) if size >= HUGE_PAGE or not size]
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        assert advised == [layers // 2 * HUGE_PAGE, 0]
    else:
        assert advised == [0]
