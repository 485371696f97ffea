import numpy as np
import pytest
from scipy import ndimage, stats

from zoo.datasets.synthetic.landslides import AREA_LIMITS, MALAMUD, landslide_areas, make_landslides, shifted
from zoo.datasets.synthetic.random_fields import stream
from zoo.physics.flow import route


def hillside(n=200):
    """A planar slope of 30 degrees that falls to the bottom row, a little rough."""
    rng = np.random.default_rng(1)
    z = (
        np.linspace(n * 10.0 * np.tan(np.radians(30.0)), 0.0, n)[:, None]
        + ndimage.gaussian_filter(rng.normal(size=(n, n)), 3) * 6
    )
    outlets = np.zeros((n, n), dtype=bool)
    outlets[-1] = True
    return route(z, 10.0, outlets)


def slides(seed=0, **changes):
    flow = changes.pop("flow", None) or hillside()
    settings = {"share": 0.03, "visibility": (4.0, 2.0), "old_share": 0.0} | changes
    slope = settings.pop("slope", np.full((200, 200), 30.0))
    hazard = settings.pop("hazard", np.ones((200, 200)))
    return make_landslides(seed, flow, slope, hazard, 10.0, **settings)


def test_areas_follow_the_truncated_inverse_gamma():
    rho, a, s = MALAMUD
    areas = landslide_areas(3e7, np.random.default_rng(0)) / 1e6
    law = stats.invgamma(rho, loc=s, scale=a)
    low, high = (law.cdf(limit / 1e6) for limit in AREA_LIMITS)
    assert stats.kstest(areas, lambda x: (law.cdf(x) - low) / (high - low)).pvalue > 0.01
    # "60 % of the labelled targets are small", the paper says of its own.
    assert np.mean(areas < 1600e-6) == pytest.approx(0.58, abs=0.03)
    assert np.all(np.diff(areas) <= 0)


def test_landslides_are_whole_and_apart():
    made = slides()
    sizes = np.bincount(made.number.ravel())
    assert len(sizes) == len(made.visibility) == len(made.old)
    assert sizes[1:].min() >= 4
    pieces = [ndimage.label(made.number == k, np.ones((3, 3)))[1] for k in range(1, len(sizes))]
    assert np.mean(np.array(pieces) == 1) > 0.97
    # The last landslide drawn may be a large one.
    assert 0.025 < (made.number > 0).mean() < 0.05


def test_landslides_keep_the_sizes_they_were_drawn_with():
    made = slides(share=0.2)
    drawn = np.round(landslide_areas(0.2 * 2000.0**2, stream(0, "landslides")) / 100.0).astype(int).tolist()
    for size in np.bincount(made.number.ravel())[1:]:
        assert size in drawn
        drawn.remove(size)


def test_landslides_run_downhill():
    made = slides(share=0.02)
    taller = 0
    for box in ndimage.find_objects(made.number):
        taller += (box[0].stop - box[0].start) - (box[1].stop - box[1].start)
    assert taller > 0


def test_landslides_start_where_the_hazard_is():
    hazard = np.zeros((200, 200))
    hazard[20:60, 20:180] = 1.0
    made = slides(hazard=hazard, share=0.01)
    assert len(made.old) > 10
    top = [box[0].start for box in ndimage.find_objects(made.number)]
    assert min(top) > 5
    assert max(top) < 62


def test_debris_stops_on_level_ground():
    slope = np.full((200, 200), 30.0)
    slope[120:] = 3.0
    made = slides(slope=slope, hazard=(slope > 15) * 1.0)
    # A body is as wide as its track, so it may reach a few pixels beyond where its track stops.
    assert not (made.number[130:] > 0).any()


def test_old_scars_are_seen_and_not_labelled():
    made = slides(old_share=0.4)
    assert made.old.mean() == pytest.approx(0.4, abs=0.1)
    assert (made.fresh() > 0).mean() == pytest.approx(0.03, rel=0.35)
    assert not made.old[np.unique(made.fresh())].any()
    assert made.visibility[made.old].mean() < made.visibility[1:][~made.old[1:]].mean()


def test_no_hazard_no_landslides():
    assert not slides(hazard=np.zeros((200, 200))).number.any()
    assert not slides(share=0.0).number.any()


def test_same_seed_same_landslides():
    assert np.array_equal(slides(4).number, slides(4).number)
    assert not np.array_equal(slides(4).number, slides(5).number)


def test_label_noise_moves_outlines_by_a_pixel_at_most():
    made = slides()
    rng = np.random.default_rng(0)
    mask = shifted(made.number, 1.0, rng)
    true = made.number > 0
    assert not np.array_equal(mask, true)
    assert not (mask & ~ndimage.binary_dilation(true, np.ones((3, 3)))).any()
    assert np.array_equal(shifted(made.number, 0.0, rng), true)
