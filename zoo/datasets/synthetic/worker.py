"""A process that makes scenes: numbers in on stdin, one line out for each scene that is on disk.

Started by :mod:`zoo.datasets.synthetic.workshop`. It ends when stdin does, so it does not outlive the process that
started it by more than one scene, however that one ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from zoo.datasets.synthetic.config import SceneConfig
from zoo.datasets.synthetic.scene import generate_scene
from zoo.datasets.synthetic.store import load_scene, save_scene, scene_path
from zoo.errors import ZooError


def make_scene(folder: Path, seed: int, config: SceneConfig) -> None:
    """Put one scene into ``folder`` unless another process has done so in the meantime.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    path = scene_path(folder, seed, config)
    with suppress(ZooError, OSError):
        load_scene(path, seed, config)
        return
    save_scene(path, generate_scene(seed, config))


def main() -> None:
    """Read jobs, one line of JSON each, until there are no more."""
    # Ctrl-C reaches the whole process group; the parent closes stdin or ends us, without two tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        job = json.loads(line)
        answer: dict[str, object] = {"seed": job["seed"]}
        try:
            make_scene(Path(job["folder"]), job["seed"], SceneConfig(**job["config"]))
        except ZooError as error:
            answer["error"] = {"problem": error.problem, "where": error.where, "hint": error.hint}
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:
            # Nobody listens any more; keep the interpreter from flushing into the broken pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


if __name__ == "__main__":
    main()
