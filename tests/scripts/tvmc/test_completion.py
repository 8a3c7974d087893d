"""`tvmc completion`: the scripts, and what a real bash completes with one."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from schedules.algorithms import REGISTRY
from schedules.target.simd import PRESETS
from tvmc.cli import main, tvmc_parser
from tvmc.completion import SHELLS, script

#: Completes the last of its arguments, as bash does it for a line that is being typed.
COMPLETE = """
source {script}
function_name=$(complete -p tvmc | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMP_LINE="$*"
COMP_POINT=${{#COMP_LINE}}
$function_name tvmc "${{@: -1}}" "${{@: -2:1}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "tvmc.bash"
    path.write_text(script(tvmc_parser(), "bash"))
    return path


def completed(bash_script: Path, folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of ``words`` in a folder."""
    code = COMPLETE.format(script=shlex.quote(str(bash_script)))
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", "tvmc", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_accepts_the_script(bash_script: Path) -> None:
    done = subprocess.run(["bash", "-n", bash_script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], {"compile", "completion"}),
        (["compi"], {"compile"}),
        (["ru"], {"run"}),
        (["records", ""], {"show", "best", "merge", "prune"}),
        (["completion", ""], set(SHELLS)),
        (["compile", "m.tflite", "--outp"], {"--output", "--output-format"}),
        (["compile", "--objective", "l"], {"least-memory"}),
        (["compile", "--target", ""], {"host", *PRESETS}),
        (["tune", "--target", "neoverse-n1"], {"neoverse-n1", "neoverse-n1-android"}),
        (["compile", "--algorithm", ""], {"auto", *(known.name for known in REGISTRY)}),
        (["compile", "m"], {"model.tflite", "models"}),
        (["compile", "--report", "m"], {"model.tflite", "models"}),
        (["tune", "model.tflite", "-o", "m"], {"models"}),
        (["tune", "model.tflite", "--config", "model."], {"model.tflite"}),
    ],
)
def test_bash_completes(
    bash_script: Path, tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "model.tflite").touch()
    assert completed(bash_script, tmp_path, *words) == expected


def test_the_command_prints_it(bash_script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == bash_script.read_text() + os.linesep
    with pytest.raises(SystemExit):
        main(["completion", "powershell"])
    assert "invalid choice: 'powershell'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shell", "line"), [("zsh", "#compdef tvmc"), ("fish", "complete -c tvmc")]
)
def test_the_other_shells(shell: str, line: str) -> None:
    parser = tvmc_parser()
    text = script(parser, shell)
    assert line in text
    for name, command in parser.commands.items():
        assert name in text
        for flag in command.options:
            assert flag.lstrip("-") in text
