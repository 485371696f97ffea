"""Run the command ``zoo`` as often as asked, each time in a copy of this process, which has imported the libraries.

The tests start it once and write one JSON line a run: arguments, folder, environment, time limit in seconds and the
files that get the output. It answers each with the exit code, or with the negative number of the signal that ended the
command.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from importlib import import_module

from zoo.cli import main
from zoo.jobs import prepare

IMPORTED = (
    "zoo.api.benchmark", "zoo.api.preparation", "zoo.api.trained_model", "zoo.bench.trial", "zoo.mapping.pipeline",
    "zoo.risk.comparison", "zoo.risk.mapping", "sklearn.ensemble", "rich.progress",
)  # fmt: skip


def serve() -> int | None:
    """Answer until the tests end; return None in a copy, which then runs the command."""
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if not process:
            signal.alarm(asked["seconds"])
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell tells background processes to ignore it
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            for stream, path in enumerate((os.devnull, asked["out"], asked["error"])):
                place = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                os.dup2(place, stream)
                os.close(place)
            sys.argv = ["zoo", *asked["arguments"]]
            return None
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    prepare("zoo.bench.trial", "segmentation_models_pytorch")
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    if serve() is None:
        from multiprocessing import forkserver

        # The copies share one server of jobs. Python would start another, because it is not a child of theirs.
        forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
        main()
