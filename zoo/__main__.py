"""Entry point of the command ``zoo`` and of ``python -m zoo``."""

import os
import sys


def main() -> None:
    """Run ``zoo`` and exit; Ctrl-C during the imports before the first command ends the process without a traceback."""
    try:
        import signal

        # A command that a shell starts in the background ignores Ctrl-C.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)
    except KeyboardInterrupt:
        _stop()
    _open_closed_streams()
    from zoo.cli import main

    main()


def _open_closed_streams() -> None:
    # "zoo ... >&-" starts without a standard output. The next file to be opened would take its number, and get what
    # libraries print.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def _stop(*_: object) -> None:
    # Nothing has started yet. A KeyboardInterrupt would be lost or wrapped in some of the imported modules.
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
