"""Trials on a Ray cluster: the same files as on one machine, whichever node ran them and whichever died."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.conftest import plain
from tests.conftest import RAY_HEAD
from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult, load_results
from zoo.bench.runner import Runner
from zoo.errors import ResultError
from zoo.training.bundle import Bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("odd_models")]


class KillsANode:
    """Listens, and kills the only node that works as soon as a training runs there; then another one comes."""

    def __init__(self, cluster: Any, node: Any) -> None:
        self.cluster, self.node = cluster, node
        self.told: list[str] = []

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        self.told.append(f"kept {config.label}")

    def damaged(self, error: ResultError) -> None:
        self.told.append("damaged")

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        if self.node is not None and stage == "train" and 0 < done < total:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = None
            self.told.append("killed a node")
            self.cluster.add_node(num_cpus=2)

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        self.told.append(f"{result.status} {config.label}")


def test_a_killed_nodes_trials_run_again_and_the_head_writes_the_same_files(
    tmp_path: Path, trial: Callable[..., TrialConfig]
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from zoo.jobs import RayExecutor, connected

    normed = trial("normed", recipe=trial().recipe.changed(steps=60))
    trials = [normed, replace(normed, adapted=True), trial("raises")]
    cluster = Cluster(initialize_head=True, head_node_args=RAY_HEAD)
    try:
        listener = KillsANode(cluster, cluster.add_node(num_cpus=2))
        with connected(cluster.address):
            runner = Runner(tmp_path / "ray", lambda told: RayExecutor[TrialResult](cluster.address, 2, told))
            results = runner.run(trials, listener)
    finally:
        cluster.shutdown()
    assert "killed a node" in listener.told
    assert [result.status for result in results] == ["ok", "ok", "failed"]
    assert "no such luck" in results[2].error
    local = Runner(tmp_path / "here").run(trials, KillsANode(None, None))
    files = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "ray", tmp_path / "here")
    ]
    assert files[0] == files[1]
    assert "no such luck" in (tmp_path / "ray" / "logs" / f"{trials[2].file_stem}.log").read_text()
    loaded, problems = load_results(tmp_path / "ray")
    assert not problems
    assert len(loaded) == 3
    Bundle.load(tmp_path / "ray" / "bundles" / normed.file_stem)
    for there, here in zip(results[:2], local[:2], strict=True):
        assert json.dumps(plain(there)["test"]["counts"]) == json.dumps(plain(here)["test"]["counts"])
        assert set(plain(there)) == set(plain(here))
