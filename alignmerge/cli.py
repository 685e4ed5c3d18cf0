"""The `alignmerge` command: subcommands load their module only when called, so `--help` never imports torch.

One subcommand = one file in alignmerge/commands/ with a click command named `command`, one row in COMMANDS.
"""

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from alignmerge import __version__
from alignmerge.errors import AlignMergeError, StorageError
from alignmerge.terminal import printable

# name -> one line of help; shown without importing the command's module.
COMMANDS: dict[str, str] = {
    "demo": "The whole story on the reference model: merge, audit, gate, report.",
    "audit": "Measure one checkpoint and write its audit record.",
    "import-results": "Take in results of lm-eval or inspect_ai as an audit record.",
    "judge": "Examine a judge against answers that people have labelled.",
    "merge": "Carry out a recipe; under a policy, publish only what passes.",
    "compare": "Run several methods on the same inputs, audited on the same items.",
    "blame": "Say which expert, layer and module spends a merge's drift from its anchor.",
    "vet": "Look at an expert before merging it: updates, shared directions, tokens, licence.",
    "gate": "Decide from audit files whether a checkpoint may ship.",
    "export": "Write a verdict as JUnit, SARIF or Markdown; a merge as ML-BOM or model card.",
    "report": "Write the HTML report of a run from its records.",
    "verify": "Check that a run's weights, records and verdicts still agree.",
    "keys": "Make a signing key, or show one.",
    "ledger": "Show or check the ledger of merges, gates and approvals.",
    "approve": "Sign off a merge under a rule that waits for a person.",
    "doctor": "Say what this machine has, and what is missing for which task.",
    "models": "List and fetch the reference model and the zoo.",
    "suites": "List the suites of questions, or show one.",
    "methods": "List the merge methods, or show one.",
    "policy": "Check a policy file, or explain it in plain words.",
    "zoo": "List the zoo's adapters, or train them again.",
}


class LazyGroup(click.Group):
    """A group whose members are imported when they run, not when help is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"alignmerge.commands.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alignmerge")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Audit, merge and gate language-model checkpoints."""
    ctx.obj = {"debug": debug}


class _Terminated(BaseException):
    """SIGTERM came. Like a keyboard interrupt it unwinds the stack, so that locks and temporary files are let go."""


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    # A caller's own handler, or its choice to ignore the signal, is left alone. Only the main thread may set one.
    default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the codes of ARCHITECTURE.md."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        with _sigterm_unwinds():
            result: Any = cli.main(args=arguments, standalone_mode=False)
    except AlignMergeError as error:
        if debug:
            raise
        click.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except _Terminated:
        click.echo("terminated", err=True)
        sys.exit(143)
    except OSError as error:
        if debug:
            raise
        click.echo(f"error: {printable(_refused(error))}", err=True)
        sys.exit(StorageError.exit_code)
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":  # torch's, which is not loaded to ask
            raise
        click.echo(
            "error: the GPU has no more room; take fewer at once, a larger GPU, or ALIGNMERGE_DEVICE=cpu", err=True
        )
        sys.exit(StorageError.exit_code)
    sys.exit(result if isinstance(result, int) else 0)


def _refused(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"
