"""A cluster of several nodes on this machine, of which one is killed, makes the same bytes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import RAY_HEAD
from tests.mapping.conftest import BANDS, WriteScene, make_image
from zoo.errors import ConfigError
from zoo.mapping import MapOptions, Scene, map_scene
from zoo.mapping.cluster import cluster_runner
from zoo.mapping.inference import AS_TRAINED, InferenceForm
from zoo.training.bundle import Bundle

PLAIN = InferenceForm(AS_TRAINED, "fp32", None, {}, 0.5)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_killed_node_changes_no_byte(bundle: Path, write_scene: WriteScene, tmp_path) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    path = write_scene(make_image(16_000, 60))
    predictor = Bundle.load(bundle).predictor()
    options = MapOptions(tile=256, overlap=32, dtype="float32")
    with Scene([path], BANDS) as scene:
        map_scene(predictor, scene, tmp_path / "here.tif", options)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=RAY_HEAD)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        told: list[str] = []

        def progress(what: str, done: int, total: int) -> None:
            ready = sum("is ready" in text for text in told)
            if what == "mapping" and len(nodes) == 2 and (ready == 2 or done == 6):
                # Both have blocks then; the last two are still to come.
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            elif what == "mapping" and len(nodes) == 2:
                time.sleep(5)  # the other worker is on its way

        with Scene([path], BANDS) as scene:
            runner = cluster_runner(cluster.address, predictor, PLAIN, scene, options, notify=told.append)
            map_scene(predictor, scene, tmp_path / "there.tif", options, runner=runner, progress=progress)
    finally:
        cluster.shutdown()
    assert any("died" in text for text in told)
    assert (tmp_path / "here.tif").read_bytes() == (tmp_path / "there.tif").read_bytes()


def test_a_missing_cluster_is_reported(bundle: Path, write_scene: WriteScene, tmp_path) -> None:
    pytest.importorskip("ray")
    predictor = Bundle.load(bundle).predictor()
    with Scene([write_scene(make_image(40, 40))], BANDS) as scene:
        runner = cluster_runner("127.0.0.1:1", predictor, PLAIN, scene, MapOptions())
        with pytest.raises(ConfigError, match="no answer from"):
            map_scene(predictor, scene, tmp_path / "out" / "prob.tif", MapOptions(), runner=runner)
    assert list((tmp_path / "out").iterdir()) == []
