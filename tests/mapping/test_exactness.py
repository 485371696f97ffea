"""Test that the map equals the prediction on the whole image and has no seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.conftest import SmallNet, make_image
from zoo.mapping.inference import TileForward, compute_blocks
from zoo.mapping.tiling import Canvas, PixelRange, Plan, join
from zoo.registry import create_model
from zoo.training.predictor import PlausibleRange, Predictor

FLOAT = np.dtype("float32")


class Array:
    """An image in memory instead of a file."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def read(self, rows: PixelRange, columns: PixelRange) -> np.ndarray:
        return self.image[:, rows.start : rows.stop, columns.start : columns.stop].copy()


def map_array(predictor: Predictor, image: np.ndarray, tile: int, overlap: int, *, tta: bool = False) -> np.ndarray:
    plan = Plan(image.shape[1:], tile, overlap)
    forward = TileForward(predictor, torch.device("cpu"), tta=tta)
    blocks = compute_blocks(Array(image), forward, plan, plan.blocks(), FLOAT, plausible=PlausibleRange.of(predictor))
    found = {(block.row, block.column): result for block, result in blocks}
    whole = np.full(image.shape[1:], np.nan, dtype=np.float32)
    for block in plan.blocks():
        rows, columns, values = join(plan, block, lambda one, field: getattr(found[one.row, one.column], field))
        part = whole[rows.start : rows.stop, columns.start : columns.stop]
        assert np.isnan(part).all()
        part[...] = values
    return whole


def whole_image(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return predictor.landslide_probability(predictor(torch.from_numpy(image)[None]))[0].numpy()


@pytest.mark.parametrize("shape", [(300, 333), (64, 200), (97, 96), (40, 17), (1, 1), (1, 130)])
def test_a_map_equals_whole_image_inference(predictor: Predictor, shape: tuple[int, int], monkeypatch) -> None:
    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 150)
    image = make_image(*shape)
    assert SmallNet.REACH <= 32 // 4
    found = map_array(predictor, image, 96, 32)
    np.testing.assert_allclose(found, whole_image(predictor, image), atol=1e-5, rtol=0)


def test_a_model_with_pooling_sees_the_same_windows_in_every_tile(monkeypatch) -> None:
    """A U-Net two levels deep reaches 14 pixels; without aligned tiles it would differ everywhere."""

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.first, self.last = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(8, 2, 3, padding=1)
            self.deep = torch.nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            height, width = x.shape[2:]
            x = torch.nn.functional.pad(x, (0, -width % 4, 0, -height % 4), mode="reflect")
            high = torch.relu(self.first(x))
            low = torch.relu(self.deep(torch.nn.functional.max_pool2d(high, 4)))
            up = torch.nn.functional.interpolate(low, scale_factor=4)
            return 3 * self.last(torch.cat([high, up], 1))[..., :height, :width]

    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 200)
    predictor = Predictor(Pooled().requires_grad_(False), [0.2, 25.0], [0.3, 12.0]).eval()
    image = make_image(301, 335)
    expected = whole_image(predictor, image)
    assert expected.std() > 0.02
    np.testing.assert_allclose(map_array(predictor, image, 128, 64), expected, atol=1e-5, rtol=0)


def test_averaging_over_the_square_equals_that_of_the_whole_image(predictor: Predictor) -> None:
    image = make_image(160, 128)
    turned = [np.rot90(image, turns, (1, 2)) for turns in range(4)]
    seen = [np.rot90(whole_image(predictor, one.copy()), -turns) for turns, one in enumerate(turned)]
    seen += [
        np.rot90(whole_image(predictor, one[:, :, ::-1].copy())[:, ::-1], -turns) for turns, one in enumerate(turned)
    ]
    found = map_array(predictor, image, 96, 32, tta=True)
    np.testing.assert_allclose(found, np.mean(seen, axis=0), atol=1e-5, rtol=0)
    assert np.abs(found - whole_image(predictor, image)).max() > 1e-3


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), shape=st.tuples(st.integers(1, 260), st.integers(1, 260)))
def test_tiles_of_any_order_and_blocks_of_any_size_give_the_same_bits(seed: int, shape: tuple[int, int]) -> None:
    """Random probabilities for every tile: nothing smooths over a seam that is wrong."""
    rng = np.random.default_rng(seed)
    results = []
    tiles: dict[tuple[int, int], np.ndarray] = {}
    missing = rng.random(shape) < 0.1
    for size in (1, 2, 100):
        plan = Plan(shape, 64, 32)
        plan._row_groups, plan._column_groups = plan.rows.groups(size), plan.columns.groups(size)
        plan.block_shape = len(plan._row_groups), len(plan._column_groups)
        parts = {}
        for block in plan.blocks():
            canvas = Canvas(plan, block, FLOAT)
            members = [(r, c) for r in block.tile_rows for c in block.tile_columns]
            for r, c in rng.permutation(members):
                seen = (
                    slice(plan.rows.tiles[r].start, plan.rows.tiles[r].stop),
                    slice(plan.columns.tiles[c].start, plan.columns.tiles[c].stop),
                )
                side = missing[seen].shape
                steps = tiles.setdefault((r, c), rng.integers(0, (1 << 24) + 1, side))
                canvas.add(r, c, (steps / (1 << 24)).astype(np.float32), missing[seen])
            parts[block.row, block.column] = canvas.result()
        whole = np.zeros(shape, dtype=np.float32)
        for block in plan.blocks():
            rows, columns, values = join(
                plan, block, lambda one, field, parts=parts: getattr(parts[one.row, one.column], field)
            )
            whole[rows.start : rows.stop, columns.start : columns.stop] = values
        results.append(whole)
    np.testing.assert_array_equal(np.isnan(results[0]), missing)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_no_seam_where_a_model_sees_its_whole_tile() -> None:
    """Channel attention pools over the tile, so the map differs from whole-image inference, and still has no edge."""
    torch.manual_seed(0)
    model = create_model("enhanced_unet", 2, 2, widths=[4, 4, 8, 8, 8])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.1)
    predictor = Predictor(model, [0.2, 25.0], [0.3, 12.0]).eval()
    image = make_image(512, 512)
    found = map_array(predictor, image, 256, 64)
    expected = whole_image(predictor, image)
    assert np.abs(found - expected).max() > 1e-5
    axis = Plan(image.shape[1:], 256, 64).columns
    borders = [number for used in axis.supports[1:] for number in range(used.start, used.start + axis.ramp)]
    for values, steps in ((found, np.abs(np.diff(found, axis=1))), (found.T, np.abs(np.diff(found.T, axis=1)))):
        across = steps.mean(0)
        inside = np.delete(across, [number for number in borders if number < len(across)])
        assert values.std() > 1e-3
        assert across[borders].max() < inside.max() * 1.05
        assert across[borders].mean() < inside.mean() * 1.1
