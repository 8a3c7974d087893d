"""Options of the tvmc command: what `tvmc compile` makes of them, and what became of old ones."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tvmc
from schedules.errors import LeanconvError
from schedules.store import SWITCH, Store
from schedules.target.simd import Simd
from tests.support.tflite_writer import Conv, chain
from tvmc.cli import main, tvmc_parser
from tvmc.command import shown_log
from tvmc.old_flags import OLD_FLAGS, answer, check_old

Compile = Callable[..., dict[str, Any]]
Refused = Callable[..., str]
MODULE = ("-f", "so")


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Where the store was when tvmc.compile was called."""
    monkeypatch.delenv(SWITCH, raising=False)
    return []


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, folders: list[Path | None]) -> Compile:
    """What `tvmc compile` would call tvmc.compile with."""
    calls: list[dict[str, Any]] = []

    @functools.wraps(tvmc.compile)
    def record(model: object, **options: Any) -> Any:
        calls.append({"model": model, **options})
        folders.append(Store.default().folder)
        return SimpleNamespace(tuning=None, to_dict=dict)

    monkeypatch.setattr("tvmc.compiling.compile_command.compile", record)
    monkeypatch.setattr("tvmc.compiling.compile_command.print_report", lambda report: None)

    def run(*arguments: str) -> dict[str, Any]:
        assert main(["compile", "m.tflite", "-o", "out", *arguments]) == 0
        return calls.pop()

    return run


@pytest.fixture
def refused(compiled: Compile, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one line with which a command ends."""

    def run(*arguments: str) -> str:
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        output = capsys.readouterr()
        assert (status, output.out) == (2, "")
        assert output.err.startswith("tvmc: error: ")
        assert output.err.count("\n") == 1, output.err
        return output.err

    return run


# The store


def test_no_store(compiled: Compile, folders: list[Path | None]) -> None:
    assert "no_store" not in compiled("--no-store")
    compiled()
    assert folders[0] is None
    assert folders[1] is not None


# Options of TVM modules


def test_options_of_modules(compiled: Compile) -> None:
    call = compiled(
        *("-f", "tar", "--dump-code", "asm,tir,asm", "--opt-level", "2"),
        *("--input-shapes", "x:0:[1,224,224,3] serving/y:[ 2, 5 ]"),
        *("--pass-config", "tir.vectorize=False", "--pass-config", "a.depth=-3"),
        *("--pass-config", "a.name=b=c", "--disabled-pass", "FuseOps,DeadCodeElimination"),
    )
    assert call["output_format"] == "tar"
    assert call["dump_code"] == ["asm", "tir"]
    assert call["opt_level"] == 2
    assert call["input_shapes"] == {"x:0": (1, 224, 224, 3), "serving/y": (2, 5)}
    assert dict(call["pass_config"]) == {"tir.vectorize": False, "a.depth": -3, "a.name": "b=c"}
    assert call["disabled_passes"] == ["FuseOps", "DeadCodeElimination"]


def test_defaults_are_those_of_the_library_function(compiled: Compile) -> None:
    assert set(compiled(*MODULE)) == set(compiled())
    assert compiled("-O", "0", *MODULE)["opt_level"] == 0


def test_a_module_and_what_is_dumped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, module, report = (tmp_path / name for name in ("m.tflite", "m.tar", "r.json"))
    graph.write_bytes(chain((1, 8, 8, 4), [Conv(8), Conv(4, dilation=(2, 2))]))
    outputs = ("-f", "tar", "-o", str(module), "--report", str(report), "--dump-code", "tir,asm")
    assert main(["compile", str(graph), *outputs, "--opt-level", "2"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"m.tflite", "m.tar", "r.json", "m.tar.tir", "m.tar.asm"}
    text = capsys.readouterr().out
    for layer in json.loads(report.read_text())["layers"]:
        assert layer["geometry"] in text
    assert "the rest, by TVM: " in text and "TFLite" not in text
    assert f"wrote {module} and {report}" in text


NAMES = st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="[],"), min_size=1)
SHAPES = st.lists(st.integers(1, 1 << 40), min_size=1).map(tuple)


@given(st.dictionaries(NAMES, SHAPES, min_size=1), st.sampled_from([" ", ", ", ","]))
def test_input_shapes_are_read_back(shapes: dict[str, tuple[int, ...]], gap: str) -> None:
    text = gap.join(f"{name}:[{','.join(map(str, shape))}]" for name, shape in shapes.items())
    command = tvmc_parser().commands["compile"]
    assert command.convert(command.options["--input-shapes"], text) == shapes


@pytest.mark.parametrize(
    "option",
    [
        ("--dump-code", "asm"),
        ("--input-shapes", "x:[1]"),
        ("--opt-level", "3"),
        ("--pass-config", "a=1"),
        ("--disabled-pass", "a"),
    ],
)
@pytest.mark.parametrize("output_format", ["delegate", "delegate-source"])
def test_delegates_have_none_of_them(
    refused: Refused, option: tuple[str, str], output_format: str
) -> None:
    line = refused("compile", "m.tflite", "-o", "out", "-f", output_format, *option)
    assert f"{option[0]} is for modules, -f so and -f tar" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dump-code", "asm,relay"), "'relay' is not one of asm, tir, relax"),
        (("--dump-code", ""), "is not NAME or NAME,NAME"),
        (("--input-shapes", ""), "'' is not of the form name:[1,224,224,3]"),
        (("--input-shapes", "x:1,2"), "'x:1,2' is not of the form"),
        (("--input-shapes", "x:[1] y"), "'y' is not of the form"),
        (("--input-shapes", "x:[-1,2]"), "'x:[-1,2]' is not of the form"),
        (("--input-shapes", "x:[0]"), "is not of the form"),
        (("--input-shapes", "x:[1,,2]"), "is not of the form"),
        (("--input-shapes", "x:[]"), "is not of the form"),
        (("--input-shapes", "x:[1] x:[2]"), "'x' is there twice"),
        (("--opt-level", "5"), "invalid choice: 5"),
        (("--opt-level", "x"), "invalid int value: 'x'"),
        (("--pass-config", "a"), "'a' is not NAME=VALUE"),
        (("--pass-config", "=1"), "'=1' is not NAME=VALUE"),
        (("--disabled-pass", "a,,b"), "is not NAME or NAME,NAME"),
        (("--desired-layout", "NCHW"), "there is no NCHW: the kernels read NHWC"),
        (("--batch", "8"), "--batch is for delegates: modules take --input-shapes"),
        (("--batch", "0"), "argument --batch"),
        (("--precision", "fp16"), "--precision is for delegates"),
        (("--rounding", "up"), "argument --rounding"),
    ],
)
def test_bad_values_are_one_line(
    refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused("compile", "m.tflite", "-o", "out", *MODULE, *arguments)


def test_the_compiler_has_two_names(compiled: Compile) -> None:
    assert "cc" not in compiled()
    assert compiled("--cc", "gcc")["cc"] == "gcc"
    assert compiled("--cross-compiler", "gcc")["cc"] == "gcc"
    assert compiled("--cross-compiler", "gcc", "--cc", "gcc", "--desired-layout", "NHWC")["cc"]


# Targets


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "host"),
        (("--target", "cortex-a76"), "cortex-a76"),
        (("--target-llvm-mcpu", "cortex-a76"), "llvm -mcpu=cortex-a76"),
        (
            ("--target", "llvm", "--target-llvm-mtriple", "aarch64-linux-gnu")
            + ("--target-llvm-mattr", "+dotprod,+fullfp16", "--target-llvm-num-cores", "2"),
            "llvm -mattr=+dotprod,+fullfp16 -mtriple=aarch64-linux-gnu -num-cores=2",
        ),
        (
            ("--target", "llvm -mcpu=cortex-a76", "--target-llvm-num-cores", "2"),
            "llvm -mcpu=cortex-a76 -num-cores=2",
        ),
    ],
)
def test_flags_of_llvm_become_a_target(
    compiled: Compile, arguments: tuple[str, ...], expected: str
) -> None:
    target = compiled(*arguments)["target"]
    assert target == expected
    assert Simd.named(target).vector_bytes >= 16


@pytest.mark.parametrize("command", ["compile", "tune"])
@pytest.mark.parametrize("target", ["cortex-a76", "host", "arm/rasp4b64", '{"kind":"llvm"}'])
def test_other_targets_have_attributes_of_their_own(
    refused: Refused, command: str, target: str
) -> None:
    line = refused(
        *(command, "m.tflite", "-o", "out", "--target", target, "--target-llvm-mcpu", "x")
    )
    assert f"--target-llvm-mcpu goes with --target llvm, not with {target!r}" in line


def test_spaces_are_quoted(compiled: Compile) -> None:
    assert compiled("--target-llvm-mcpu", "a b")["target"] == "llvm -mcpu='a b'"


def test_the_same_attribute_twice(compiled: Compile) -> None:
    target = compiled("--target", "llvm -mcpu=a", "--target-llvm-mcpu", "b")["target"]
    with pytest.raises(LeanconvError, match="-mcpu is there twice"):
        Simd.named(target)


# What old tvmc had


@pytest.mark.parametrize("command", ["compile", "tune", "run"])
def test_every_old_flag_is_answered(refused: Refused, command: str) -> None:
    for pattern in OLD_FLAGS[f"tvmc {command}"]:
        flag = pattern.replace("*", "x")
        assert f"tvmc: error: {flag}: " in refused(command, "m.tflite", "-o", "out", flag, "value")
        assert f"{flag}: " in refused(command, "m.tflite", f"{flag}=value")


@pytest.mark.parametrize(
    ("command", "flag", "message"),
    [
        ("compile", "--executor-graph-link-params", "Relax's virtual machine"),
        ("compile", "--runtime-cpp-system-lib", "a delegate none"),
        ("compile", "--tuning-log", "--tuning-records"),
        ("compile", "--target-c-mcpu", "microcontrollers are not supported"),
        ("compile", "--target-llvm-mfloat-abi", "mcpu, mattr, mtriple and num-cores"),
        ("compile", "--target-cuda-arch", "the only kind of target is llvm"),
        ("compile", "--workspace-pools-size-bytes", "--workspace-limit"),
        ("tune", "--enable-autoscheduler", "made by hand"),
        ("run", "--list-options", "microcontrollers"),
    ],
)
def test_answers(command: str, flag: str, message: str) -> None:
    assert message in (answer(f"tvmc {command}", flag) or "")


def test_what_there_is_is_not_taken_for_old() -> None:
    parser = tvmc_parser()
    for name, command in parser.commands.items():
        check_old(parser, [name, *command.options])


def test_old_commands_and_tuners(refused: Refused) -> None:
    assert "micro: microcontrollers are not supported" in refused("micro", "create-project")
    assert "invalid choice: 'xgb_knob'" in refused("tune", "m", "-o", "out", "--tuner", "xgb_knob")


# What all commands have


def test_every_command_has_the_common_options() -> None:
    def leaves(parser: Any) -> list[Any]:
        return [leaf for child in parser.commands.values() for leaf in leaves(child)] or [parser]

    commands = leaves(tvmc_parser())
    assert len(commands) >= 9
    for command in commands:
        assert {"-h", "--config", "-v", "--verbose"} <= set(command.options)
        for action in command.arguments:
            assert action.help, (command.prog, action.dest)


def test_the_log_by_verbosity(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("schedules.some.module")
    shown = []
    for verbose in range(4):
        with shown_log(verbose):
            logger.debug("a detail")
            logger.info("a step")
            logger.warning("a warning")
        logger.info("behind it")
        shown.append(capsys.readouterr().err.splitlines())
    everything = [f"schedules.some.module: a {what}" for what in ("detail", "step", "warning")]
    assert shown == [["a warning"], ["a step", "a warning"], everything, everything]


def test_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "missing.tflite", "-o", "out"]
    assert main(command) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert main([*command, "-vv"]) == 2
    errors = capsys.readouterr().err
    assert "tvmc.tuning.tuner: target 'host' is Simd(" in errors
    assert "Traceback" in errors and errors.endswith(line)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("foo.bar=1", "Invalid config option 'foo.bar'"),
        ("tir.disable_vectorize=1", "Invalid config option 'tir.disable_vectorize': tirx.disable"),
        ("tirx.disable_vectorize=abc", "Expect config tirx.disable_vectorize to have type bool"),
    ],
)
def test_an_option_that_tvm_does_not_know(
    setting: str,
    told: str,
    trained_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "module.so"
    model = trained_models / "dscnn_hybrid.tflite"
    command = ["compile", str(model), "-f", "so", "-o", str(output), "--pass-config", setting]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tvmc: error: --pass-config: {told}")
    assert len(line) < 200
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("FuseOp", "TVM has no pass 'FuseOp': FuseOps"),
        ("DeadCodeElimination,relax.Fuse", "TVM has no pass 'relax.Fuse'"),
    ],
)
def test_a_pass_that_tvm_does_not_know(name: str, told: str, trained_models: Path) -> None:
    with pytest.raises(LeanconvError, match=f"--disabled-pass: {told}"):
        tvmc.compile(
            trained_models / "dscnn_hybrid.tflite",
            output="no.so",
            output_format="so",
            disabled_passes=name.split(","),
        )


def test_a_pass_is_found_with_its_folder_or_without() -> None:
    from tvmc.compiling.module_compiler import Passes

    disabled = ["UnrollLoop", "relax.FuseOps", "ConvertToDataflow"]
    context = Passes(disabled=disabled).context()
    found = set(map(str, context.disabled_pass))
    assert {*disabled, "tirx.UnrollLoop", "relax.ConvertToDataflow"} <= found
