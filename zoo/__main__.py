"""Entry point of the command ``zoo`` and of ``python -m zoo``."""

import os


def main() -> None:
    """Run ``zoo`` and exit; Ctrl-C during the imports before the first command ends the process without a traceback."""
    try:
        import signal

        # A command that a shell starts in the background ignores Ctrl-C.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)
    except KeyboardInterrupt:
        _stop()
    from zoo.cli import main

    main()


def _stop(*_: object) -> None:
    # Nothing has started yet. A KeyboardInterrupt would be lost or wrapped in some of the imported modules.
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
