"""The command `flowq`: finds the subcommand, imports its module, and turns what it raises into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any

import typer

from flowq.cli.framework.help import App, Command, Group, help_of
from flowq.cli.framework.invocation import FOLDER, enter, remember
from flowq.runtime.handlers.streams import flush_and_discard, prepare_streams

# name, group in the help, what it does. Said here, so that `flowq --help` imports none of them.
COMMANDS = (
    ("run", "Run", "Run a pipeline, or some of its stages."),
    ("push", "Run", "Put messages into a pipeline."),
    ("purge", "Run", "Remove waiting messages."),
    ("replay", "Run", "Rerun settled messages that a stage has kept."),
    ("status", "Look", "Show what is waiting, running and dead, stage by stage."),
    ("dlq", "Look", "Inspect, fix, retry and remove dead letters."),
    ("peek", "Look", "Show messages without consuming them."),
    ("trace", "Look", "Show the ancestors and descendants of a message."),
    ("audit", "Look", "Show who paused, retried, removed or pushed what."),
    ("doctor", "Look", "Examine the Redis that flowq uses."),
    ("top", "Look", "Watch pipelines, full screen."),
    ("healthcheck", "Look", "Check the health of the workers on this machine."),
    ("dashboard", "Look", "Serve a web page that shows pipelines live."),
    ("exporter", "Look", "Serve the metrics of all pipelines to Prometheus."),
    ("pause", "Steer", "Pause a pipeline, a stage or a key."),
    ("resume", "Steer", "Resume a pipeline, a stage or a key."),
    ("plan", "Steer", "Compare the code with what is in Redis."),
    ("apply", "Steer", "Bring Redis in line with the code of a pipeline."),
    ("gc", "Steer", "Remove edges that a pipeline no longer has."),
    ("graph", "Write", "Draw a pipeline."),
    ("new", "Write", "Create a pipeline and its test from a template."),
    ("init", "Write", "Set up this folder as a project."),
    ("try", "Write", "Run one stage on one or more messages, without Redis."),
    ("test", "Write", "Test that a pipeline loses nothing, whatever fails."),
    ("check", "Write", "Check pipelines without running them."),
    ("export", "Write", "Write manifests for Kubernetes or Compose."),
    ("ls", "Write", "List the pipelines of this project."),
    ("config", "Write", "Show the effective settings and where each comes from."),
)


class CommandsOnDemand(Group):
    """Lists all commands from the table above, and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, panel, short_help in COMMANDS:
            self.add_command(Command(name, short_help=short_help, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        found, _, rest = super().resolve_command(ctx, args)
        return found, command_named(str(found)), rest


def command_named(name: str) -> Any:
    """The command of that name, or the group of commands, from its module."""
    declared = import_module(f"flowq.cli.commands.{name}_" if iskeyword(name) else f"flowq.cli.commands.{name}").command
    if isinstance(declared, App):
        return typer.main.get_command(declared)
    alone = App()
    alone.command(name)(declared)
    return typer.main.get_command(alone)


app = App(
    cls=CommandsOnDemand,
    add_completion=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        from flowq import __version__

        typer.echo(f"flowq {__version__}")
        raise typer.Exit


def flowq(
    ctx: typer.Context,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            "-C",
            metavar="FOLDER",
            callback=enter,
            file_okay=False,
            help="Run as if started in FOLDER; paths in the command are relative to it. Goes before COMMAND.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show full tracebacks. Works in any position.")] = False,
) -> None:
    """Typed pipelines of several stages over Redis Streams.

    Example:
      flowq new scrape
      flowq run scrape -a url=https://example.org/
      flowq COMMAND --help
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)


app.callback(invoke_without_command=True, help=help_of(flowq))(flowq)


def main() -> int:
    """Run the command line of this process; returns the exit code.

    Exit codes: 0 done, 1 unexpected error, 2 wrong usage, wiring or import, 3 new dead letters, 4 Redis cannot be
    reached, 5 --for ended before the pipeline was drained, 130 interrupted, 143 forced to stop.
    """
    prepare_streams()
    remember(sys.argv[0])
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    os.environ.pop(FOLDER, None)  # of a flowq that has started this one
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" in arguments[:end]:
        os.environ["FLOWQ_DEBUG"] = "1"  # worker processes inherit it
    rest = [argument for argument in arguments[:end] if argument != "--debug"] + list(arguments[end:])
    color = False if os.environ.get("NO_COLOR") else True if os.environ.get("FORCE_COLOR") else None
    try:
        command: Any = typer.main.get_command(app)
        exit_code = command.main(rest, prog_name="flowq", standalone_mode=False, color=color)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except SystemExit:  # of shell completion, which has printed all
        raise
    except BrokenPipeError:  # the reader of our output has gone
        return 1
    except BaseException as error:  # noqa: BLE001  (the border of the process: whatever it is, the user must see it)
        from flowq.cli.framework.error_screen import report

        return report(_of_arguments(error, rest), debug=bool(os.environ.get("FLOWQ_DEBUG")))
    finally:
        flush_and_discard()
    return exit_code if isinstance(exit_code, int) else 0


def _of_arguments(error: BaseException, arguments: Sequence[str]) -> BaseException:
    """The error to show: an argument that is not UTF-8 is accepted as the name of a file, and cannot go to Redis."""
    if isinstance(error, UnicodeEncodeError):
        from flowq.errors import UsageError
        from flowq.printable import is_unicode

        for argument in arguments:
            if not is_unicode(argument):
                return UsageError(f"the argument {argument} is not UTF-8")
    return error
