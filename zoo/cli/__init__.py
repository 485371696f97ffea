"""The command ``zoo``. Commands are thin and import what they need when they run."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from zoo import __version__
from zoo.cli.lazy import LazyCommand, LazyGroup
from zoo.errors import ZooError, one_line
from zoo.registry import plugin_error, register_commands

EXIT_TRIALS_FAILED = 1
EXIT_LEAK = 1
EXIT_BAD_INPUT = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

COMMANDS = {
    "accuracy": "Estimate accuracy and areas of a map from a sample of points.",
    "adapt": "Adapt a bundle to a region without labels.",
    "audit": "Find leakage between the splits of a data set.",
    "card": "Write the model card of a bundle.",
    "check": "Check that a model, data set, loss, metric or risk model meets its contract.",
    "bench": "Compare models on the same data, steps and seeds.",
    "datasets": "List data sets, or show one.",
    "describe": "Describe data: statistics, class balance, landslide sizes, redundancy.",
    "doctor": "Check the installation, devices, caches and plugins for problems.",
    "evaluate": "Evaluate a bundle on its own data or on other data.",
    "explain": "Show which channels and pixels a prediction depends on.",
    "export": "Export a model to ONNX, OpenVINO or torch.export.",
    "map": "Map the landslide probability of a scene of any size.",
    "models": "List models, or show one.",
    "patches": "Cut a stack and an inventory into patches and masks.",
    "plugin": "Create a new plugin.",
    "plugins": "List plugins: what they provide, or why they failed.",
    "polygons": "Outline the landslides of a finished map.",
    "pull": "Download a bundle from the hub or a URL.",
    "push": "Upload a bundle to the Hugging Face hub.",
    "rain": "Put rain from satellites, reanalyses or gauges on the grid of a stack.",
    "report": "Print tables of results, or write an HTML page.",
    "risk": "Compare risk models, calibrate the risk index, map it.",
    "speed": "Time models side by side: latency, throughput, memory, energy.",
    "stack": "Build the paper's seven channels on one grid.",
    "train": "Train one model and save it as a bundle.",
    "weights": "List trained weights, or show one.",
}

_MODULES = {
    **dict.fromkeys(("check", "datasets", "doctor", "models", "plugin", "plugins"), "catalogue"),
    **dict.fromkeys(("card", "pull", "push"), "weights"),
    **dict.fromkeys(("accuracy", "polygons"), "map"),
}
"""Module of each command whose module has another name."""


def build_app() -> LazyGroup:
    """Return the command group with the built-in commands; plugins add theirs later."""
    app = LazyGroup(
        "zoo",
        help="landslide-zoo: landslide segmentation models, compared in one harness.",
        epilog="First steps:  zoo bench --models all   |   zoo models   |   zoo train enhanced_unet --out runs/unet",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        no_args_is_help=True,
    )
    click.version_option(__version__, prog_name="landslide-zoo")(app)
    for name, summary in COMMANDS.items():
        app.add_command(LazyCommand(name, f"zoo.cli.{_MODULES.get(name, name)}:{name}", summary))
    return app


def _end_process() -> None:
    """End the process before Python takes torch and other libraries apart: a second in which some print complaints."""
    if _exit_codes:
        with suppress(OSError, ValueError):  # Python then reports it itself
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_exit_codes[-1])


_exit_codes: list[int] = []
# Python waits for all threads first, and calls what was registered first last: after the functions of all libraries.
atexit.register(_end_process)


def main(arguments: list[str] | None = None) -> None:
    """Run ``zoo`` and exit.

    Codes: 0 success, 1 a trial or check failed or leakage was found, 2 bad input, 70 a bug, 130 interrupted.
    """
    _exit_codes.append(run(arguments))
    sys.exit(_exit_codes[-1])


def run(arguments: list[str] | None = None) -> int:
    """Run ``zoo`` with ``arguments`` (``sys.argv`` by default) and return the exit code."""
    try:
        with _handle_termination():
            app = build_app()
            register_commands(app)
            # Outside standalone mode click returns the code of ctx.exit() instead of exiting with it.
            code = app.main(args=arguments, prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ZooError as error:
        _print_error(error.problem if error.where is None else f"{error.where}: {error.problem}", error.hint)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)  # click has ended the line
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (head, less) has closed it; Python would report this again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnicodeEncodeError as error:
        # GDAL, JSON and GeoTIFF tags need UTF-8; Python decodes names in another encoding to lone surrogates.
        _print_error(f"{error.object!r} is not valid UTF-8", "Rename the file or folder")
        return EXIT_BAD_INPUT
    except BaseException as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _print_error("the name of a file is too long for this system", "Give a shorter name")
            return EXIT_BAD_INPUT
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = "the disk" if error.filename is None else f"the disk of {os.fspath(error.filename)}"
            _print_error(f"{where}, or a file that the output is sent to, is full", "Free some space")
            return EXIT_BAD_INPUT
        if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
            _print_error(
                "no folder for temporary files can be written to: the disk is full or read-only",
                "Free some space, or name a folder with the environment variable TMPDIR",
            )
            return EXIT_BAD_INPUT
        if isinstance(error, SystemExit) and not _raised_by_zoo(error):
            raise  # a plugin's command may exit with any code
        if os.environ.get("ZOO_TRACEBACK"):
            traceback.print_exc()
        found = plugin_error(error)
        _print_error(
            f"this is a bug in zoo or in a plugin ({one_line(error)})" if found is None else found.problem,
            "Run the command again with ZOO_TRACEBACK=1 and report what it prints",
        )
        return EXIT_BUG


def _raised_by_zoo(error: BaseException) -> bool:
    """Return whether an exception passed through one of zoo's own commands."""
    modules = {str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)}
    return any(name.startswith("zoo.cli.") for name in modules - {"zoo.cli.lazy"})


def _print_error(problem: str, hint: str | None) -> None:
    from zoo.files import printable_lines

    click.echo(click.style("error: ", fg="red", bold=True) + printable_lines(problem), err=True)
    if hint:
        click.echo(click.style("       ", fg="red") + printable_lines(hint), err=True)


@contextmanager
def _handle_termination() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, and protect the clean-up from further signals.

    The first Ctrl-C or SIGTERM raises ``KeyboardInterrupt``. Later ones are ignored until the process ends, so that
    they cannot interrupt the clean-up or print a traceback. Signals are handled only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    # A command that a shell starts in the background ignores Ctrl-C.
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if not stopped:
            for number, handler in before.items():
                signal.signal(number, handler)
