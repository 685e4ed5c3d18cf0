"""The command line: quick help, one row per command, one exit code per kind of failure."""

import json
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from alignmerge import __version__, cli, errors

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "alignmerge" / "commands").glob("*.py") if path.stem != "__init__")
HEAVY = ("torch", "transformers", "peft", "datasets", "scipy", "sklearn", "pandas", "openai")


def run_help(*arguments: str) -> tuple[float, str, list[str]]:
    """Processor seconds, help text and heavy modules imported by `alignmerge ARGUMENTS --help` in a new process.

    Processor time, because on a busy machine wall time measures the neighbours.
    """
    code = (
        "import json, sys\nfrom alignmerge.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        f"    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert result.returncode == 0, result.stderr
    text, _, imported = result.stdout.rstrip().rpartition("\n")
    return seconds, text, json.loads(imported)


def test_help_takes_less_than_300_ms_and_imports_no_torch() -> None:
    runs = [run_help() for _ in range(5)]
    assert min(seconds for seconds, _, _ in runs) < 0.3
    assert runs[0][2] == []
    for name in cli.COMMANDS:
        assert name in runs[0][1]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_is_as_light(name: str) -> None:
    seconds, text, imported = run_help(name)
    assert imported == []
    assert text.startswith("Usage:")
    assert min(seconds, *(run_help(name)[0] for _ in range(2))) < 0.3


def test_every_command_module_has_a_row() -> None:
    assert sorted(name.replace("-", "_") for name in cli.COMMANDS) == MODULES


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_row_is_a_command_with_help(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert isinstance(command, click.Command)
    assert command.help
    assert cli.COMMANDS[name].endswith(".")


def test_version() -> None:
    result = CliRunner().invoke(cli.cli, ["--version"])
    assert result.output == f"alignmerge, version {__version__}\n"


def plant(monkeypatch: pytest.MonkeyPatch, failure: BaseException | int) -> None:
    """Add a command `planted` that raises `failure`, or exits with it where it is a number."""

    @click.command()
    @click.pass_context
    def command(context: click.Context) -> None:
        if isinstance(failure, int):
            context.exit(failure)
        raise failure

    module = ModuleType("planted")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alignmerge.commands.planted", module)
    monkeypatch.setitem(cli.COMMANDS, "planted", "Fails.")


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(list(arguments))
    return exit_info.value.code


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.RecipeError("x"), 2),
        (errors.PolicyError("x"), 2),
        (errors.PolicyFailed("x"), 3),
        (errors.Inconclusive("x"), 4),
        (errors.InputRejected("x"), 5),
        (errors.ShardError("x"), 5),
        (errors.TensorMismatch("x"), 5),
        (errors.TokenizerMismatch("x"), 5),
        (errors.UnsafeFormat("x"), 5),
        (errors.RecordError("x"), 5),
        (errors.IntegrityError("x"), 5),
        (errors.StorageError("x"), 6),
        (errors.EndpointError("x"), 6),
        (OSError("x"), 6),
        (PermissionError(13, "Permission denied", "/there"), 6),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("x"), 2),
        (3, 3),
        (0, 0),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, failure: BaseException | int, code: int) -> None:
    plant(monkeypatch, failure)
    assert exit_code("planted") == code


def test_unknown_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("no-such-command") == 2
    assert "no-such-command" in capsys.readouterr().err


def test_a_failure_is_one_line_and_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch, errors.ShardError("model.safetensors: bad header; fetch it again"))
    assert exit_code("planted") == 5
    assert capsys.readouterr().err == "error: model.safetensors: bad header; fetch it again\n"
    with pytest.raises(errors.ShardError):
        cli.main(["--debug", "planted"])


def test_a_refusal_of_the_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plant(monkeypatch, OSError(28, "No space left on device", "/there/\x1bfile"))
    assert exit_code("planted") == 6
    assert capsys.readouterr().err == "error: /there/\\x1bfile: No space left on device\n"
    with pytest.raises(OSError, match="No space left"):
        cli.main(["--debug", "planted"])


def test_a_full_gpu_is_one_line_and_other_failures_of_torch_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    plant(monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert exit_code("planted") == 6
    said = capsys.readouterr().err
    assert said.startswith("error: the GPU has no more room") and "ALIGNMERGE_DEVICE=cpu" in said
    assert said.count("\n") == 1
    plant(monkeypatch, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        cli.main(["planted"])


TERMINATED = """\
import os, signal, sys, types
import click
from alignmerge import cli

@click.command()
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        print("went on")
    finally:
        print("cleaned up")

sys.modules["alignmerge.commands.planted"] = types.SimpleNamespace(command=command)
cli.COMMANDS["planted"] = "Is terminated."
if sys.argv[1:] == ["ignored"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
cli.main(["planted"])
"""


@pytest.mark.parametrize(
    ("arguments", "code", "out", "error"),
    [([], 143, "cleaned up\n", "terminated\n"), (["ignored"], 0, "went on\ncleaned up\n", "")],
)
def test_sigterm_unwinds_and_exits_143(arguments: list[str], code: int, out: str, error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, error)


def test_main_leaves_the_signal_handler_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    plant(monkeypatch, 0)
    exit_code("planted")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_hostile_name_cannot_drive_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch, errors.ShardError("tensor \x1b[2Jname\u202e\x07 in ü.safetensors"))
    exit_code("planted")
    assert capsys.readouterr().err == "error: tensor \\x1b[2Jname\\u202e\\x07 in ü.safetensors\n"


def test_every_error_class_has_a_documented_exit_code() -> None:
    def classes(root: type[errors.AlignMergeError]) -> list[type[errors.AlignMergeError]]:
        return [root, *(found for child in root.__subclasses__() for found in classes(child))]

    tree = errors.__doc__ or ""
    for found in classes(errors.AlignMergeError):
        if found.__module__ != errors.__name__:
            continue
        assert f"{found.__name__} " in tree
        if found is not errors.AlignMergeError:
            assert found.exit_code in {2, 3, 4, 5, 6}


def test_the_architecture_document_lists_every_exit_code() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = set(re.findall(r"^\| (\d+)[ ,]", text.partition("## Exit codes")[2], re.MULTILINE))
    codes = {str(found.exit_code) for found in vars(errors).values() if isinstance(found, type)}
    assert rows == codes | {"0", "130"}
