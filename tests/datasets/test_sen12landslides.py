"""Sen12Landslides, from files written as its authors wrote theirs."""

from __future__ import annotations

import hashlib
import json
import tarfile
import warnings
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets import sen12landslides as module
from zoo.datasets.base import IGNORE, DataWarning
from zoo.datasets.hdf5 import open_hdf5
from zoo.datasets.sen12landslides import REPOSITORY, REVISION, SPLITS_REVISION, Sen12Landslides
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError

S2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
DATES = ("2023-05-01", "2023-05-11", "2023-05-21", "2023-06-10")
"""The event of 2023-05-16 lies between the second and the third."""


WRITTEN: dict[tuple, bytes] = {}


def write_patch(path, **options):
    """Write a patch; one that was written before is copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = tuple(sorted(options.items()))
    try:
        known = WRITTEN.get(key)
    except TypeError:
        return write_new_patch(path, **options)
    if known is None:
        known = WRITTEN[key] = write_new_patch(path, **options).read_bytes()
    path.write_bytes(known)
    return path


def write_new_patch(path, *, sensor="s2", dates=DATES, event="2023-05-16", x=755200.0, y=4882560.0, seed=0, **change):
    """Write a patch as build_and_save_xarray_dataset of the authors' src/preprocess/modules/patch_module.py does.

    ``change``: clear (SCL by date, default 4, vegetation), mask, crs, attrs, layers (name -> array), drop, size,
    transposed (dimensions as the authors' README prints them).
    """
    rng = np.random.default_rng(seed)
    count, size = len(dates), change.get("size", 128)
    shape = (count, size, size)
    layers = {}
    for position, name in enumerate(S2 if sensor == "s2" else ("VV", "VH")):
        if sensor == "s2":
            # Value tells band and date: 1000 x band + 100 x date + noise below 100.
            base = 1000 * (position + 1) + 100 * np.arange(count)[:, None, None]
            layers[name] = (base + rng.integers(0, 50, shape)).astype(np.int16)
        else:
            layers[name] = rng.normal(-12 - 6 * position, 2, shape).astype(np.float32)
    if sensor == "s2":
        clear = change.get("clear", [4] * count)
        layers["SCL"] = np.broadcast_to(np.array(clear, np.int16)[:, None, None], shape).copy()
    mask = np.zeros((size, size), np.uint8)
    mask[10:30, 40:70] = 1
    mask = change.get("mask", mask if event else np.zeros_like(mask))
    layers["MASK"] = np.broadcast_to(mask, shape).copy()
    relief = rng.integers(300, 900, (size, size))
    layers["DEM"] = np.repeat(np.clip(relief, 0, 10000).astype(np.int16)[None], count, axis=0)
    layers.update(change.get("layers", {}))
    for name in change.get("drop", ()):
        del layers[name]
    cube = xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in layers.items()},
        coords={
            "time": np.array(dates, dtype="datetime64[ns]"),
            "y": y - 10.0 * np.arange(size),
            "x": x + 10.0 * np.arange(size),
        },
    )
    cube["spatial_ref"] = xr.DataArray(
        0, attrs={"crs_wkt": "PROJCRS[...]", "GeoTransform": f"{x} 10.0 0.0 {y} 0.0 -10.0"}
    )
    dated = [part for part in event.split(",") if part]
    cube.attrs = {
        "ann_id": ",".join(str(41125 + index) for index in range(len(dated))),
        "ann_bbox": "",
        "event_date": event,
        "date_confidence": ",".join("1.0" for _ in dated),
        "pre_post_dates": "{'pre': 1, 'post': 2}" if dated else "",
        "annotated": str(bool(dated)),
        "satellite": sensor,
        "center_lat": y - 640.0,
        "center_lon": x + 640.0,
        "crs": change.get("crs", "EPSG:32632"),
        **change.get("attrs", {}),
    }
    if change.get("transposed"):
        cube = cube.transpose("time", "x", "y")
    cube.to_netcdf(path, engine="h5netcdf")
    return path


def write_set(root, regions=("italy", "hokkaido", "nepal", "usa_alaska"), each=2, edition="harmonized", **change):
    """Two neighbouring patches a region."""
    for number, region in enumerate(regions):
        for index in range(each):
            write_patch(
                root / f"data_{edition}" / "s2" / f"{region}_s2_{index}.nc",
                x=755200.0 + 1280.0 * index,
                seed=10 * number + index,
                **change,
            )
    return root


@pytest.fixture
def open_set():
    def open_it(root, split="train", **options):
        return Sen12Landslides(root, split, cache=False, **options)

    return open_it


def one(root, **options):
    """The only patch of a folder, as the training split of one region; two other regions are not used."""
    for region in ("other", "third"):
        if not (root / f"data_harmonized/s2/{region}_s2_1.nc").exists():
            write_patch(root / f"data_harmonized/s2/{region}_s2_1.nc")
    options = {"train_groups": "italy", "val_groups": "other", "test_groups": "third", **options}
    return Sen12Landslides(root, "train", cache=False, **options)


PATCH = "data_harmonized/s2/italy_s2_6982.nc"


class TestReading:
    def test_first_image_after_the_event(self, tmp_path):
        write_patch(tmp_path / PATCH, seed=3)
        data = one(tmp_path)
        sample = data[0]
        assert [band.name for band in data.bands] == [*S2, "DEM"]
        assert sample["image"].shape == (11, 128, 128)
        assert data.acquisitions(0) == ("2023-05-21",)
        assert data.events(0) == ("2023-05-16",)
        truth = xr.open_dataset(tmp_path / PATCH, engine="h5netcdf")
        for channel, name in enumerate((*S2, "DEM")):
            np.testing.assert_array_equal(sample["image"][channel], truth[name].values[2].astype(np.float32))
        np.testing.assert_array_equal(sample["mask"], truth["MASK"].values[0])
        assert sample["mask"].sum() == 600
        assert (data.patches[0].name, data.patches[0].group) == ("italy_s2_6982", "italy")

    def test_dimensions_in_the_order_of_the_readme(self, tmp_path):
        """The README prints (time, x, y), the code writes (time, y, x): image and mask must not be turned apart."""
        write_patch(tmp_path / "a" / PATCH, seed=5)
        write_patch(tmp_path / "b" / PATCH, seed=5, transposed=True)
        first, second = one(tmp_path / "a")[0], one(tmp_path / "b")[0]
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["mask"], second["mask"])

    def test_all_dates_are_channels_and_the_dem_comes_once(self, tmp_path):
        dates = [f"2023-{month:02d}-05" for month in range(1, 13)] + ["2024-01-05", "2024-02-05", "2024-03-05"]
        write_patch(tmp_path / PATCH, dates=dates)
        for region in ("other", "third"):
            write_patch(tmp_path / f"data_harmonized/s2/{region}_s2_1.nc", dates=dates)
        data = one(tmp_path, dates="all")
        names = [band.name for band in data.bands]
        assert len(names) == 15 * 10 + 1
        assert names[:2] == ["B02_t00", "B03_t00"]
        assert names[-2:] == ["B12_t14", "DEM"]
        image = data[0]["image"]
        assert image.shape == (151, 128, 128)
        assert 1000 + 1400 <= image[names.index("B02_t14")].min() < 1000 + 1450
        assert data.acquisitions(0) == tuple(dates)

    def test_before_and_after(self, tmp_path):
        write_patch(tmp_path / PATCH)
        data = one(tmp_path, dates="pre_post", bands="B04,B08")
        assert [band.name for band in data.bands] == ["B04_pre", "B08_pre", "B04_post", "B08_post"]
        assert data.acquisitions(0) == ("2023-05-11", "2023-05-21")
        means = data[0]["image"].mean(dim=(1, 2))
        np.testing.assert_allclose(means, [3124.5, 7124.5, 3224.5, 7224.5], atol=2)
        assert one(tmp_path, dates="pre").acquisitions(0) == ("2023-05-11",)

    def test_times_out_of_order(self, tmp_path):
        write_patch(tmp_path / PATCH, dates=(DATES[3], DATES[0], DATES[2], DATES[1]))
        data = one(tmp_path, bands=["B02"])
        assert data.acquisitions(0) == ("2023-05-21",)
        assert data[0]["image"].min() >= 1200
        assert data[0]["image"].max() < 1250

    @pytest.mark.parametrize(
        ("clear", "expected"),
        [((4, 4, 9, 4), "2023-06-10"), ((4, 4, 255, 4), "2023-06-10"), ((4, 4, 9, 10), "2023-05-21")],
        ids=["cloud", "no classification", "nothing clear: the earlier of two equal ones"],
    )
    def test_clouded_images_are_passed_over(self, tmp_path, clear, expected):
        write_patch(tmp_path / PATCH, clear=clear)
        assert one(tmp_path).acquisitions(0) == (expected,)

    def test_max_cloud_is_a_share(self, tmp_path):
        classes = np.full((4, 128, 128), 4, np.int16)
        classes[2, :32] = 8
        write_patch(tmp_path / PATCH, layers={"SCL": classes})
        assert one(tmp_path).acquisitions(0) == ("2023-06-10",)
        assert one(tmp_path, max_cloud=0.25).acquisitions(0) == ("2023-05-21",)

    def test_the_image_of_the_event_day_is_neither_before_nor_after(self, tmp_path):
        write_patch(tmp_path / PATCH, event="2023-05-21")
        data = one(tmp_path, dates="pre_post", bands="B02")
        assert data.acquisitions(0) == ("2023-05-11", "2023-06-10")

    def test_after_the_last_of_several_events(self, tmp_path):
        write_patch(tmp_path / PATCH, event="2023-05-25,2023-05-16")
        data = one(tmp_path, dates="pre_post", bands="B02")
        assert data.events(0) == ("2023-05-16", "2023-05-25")
        assert data.acquisitions(0) == ("2023-05-11", "2023-06-10")

    def test_patch_without_an_event_takes_the_date_of_its_region(self, tmp_path):
        write_patch(tmp_path / PATCH, event="")
        for index, event in enumerate(("2023-05-25", "2023-05-25", "2023-05-05")):
            write_patch(tmp_path / f"data_harmonized/s2/italy_s2_{index}.nc", event=event)
        data = one(tmp_path)
        index = [patch.name for patch in data.patches].index("italy_s2_6982")
        assert data.acquisitions(index) == ("2023-06-10",)
        assert data.events(index) == ()
        assert any("1 patches without an event" in note for note in data.split_notes)

    @pytest.mark.parametrize(
        ("event", "reason"),
        [("2023-07-01", "no image after its event"), ("None", "a landslide without a date")],
    )
    def test_patches_that_have_no_such_image_are_counted(self, tmp_path, event, reason):
        write_patch(tmp_path / PATCH)
        write_patch(tmp_path / "data_harmonized/s2/italy_s2_7.nc", event=event)
        data = one(tmp_path)
        assert [patch.name for patch in data.patches] == ["italy_s2_6982"]
        assert any(f"1 of 4 patches left out: {reason}" in note for note in data.split_notes)
        assert len(one(tmp_path, dates="all")) == 2

    def test_missing_pixels(self, tmp_path):
        classes = np.full((4, 128, 128), 4, np.int16)
        classes[2, 0, :5] = 0
        classes[2, 1, :7] = 9
        band = np.full((4, 128, 128), 1500, np.int16)
        band[2, 2, 3] = np.int16(-20000)
        band[2, 2, 4] = -300
        write_patch(tmp_path / PATCH, layers={"SCL": classes, "B03": band})
        kept = one(tmp_path)[0]
        assert kept["image"][:10, 0, :5].isnan().all()
        assert not kept["image"][10].isnan().any()
        assert kept["image"].isnan().sum() == 10 * 5 + 1
        assert kept["image"][1, 2, 4] == -300
        assert (kept["mask"] == IGNORE).sum() == 5
        masked = one(tmp_path, clouds="mask")[0]
        assert masked["image"][:10, 1, :7].isnan().all()
        assert (masked["mask"] == IGNORE).sum() == 5 + 7

    def test_fill_values_and_scale(self, tmp_path):
        path = write_patch(tmp_path / PATCH)
        with h5py.File(path, "r+") as file:
            file["B02"].attrs["_FillValue"] = np.int16(1234)
            file["B02"].attrs["scale_factor"] = 2.0
            file["B02"].attrs["add_offset"] = -10.0
            raw = file["B02"][2]
        image = one(tmp_path, bands="B02")[0]["image"][0].numpy()
        np.testing.assert_array_equal(np.isnan(image), raw == 1234)
        np.testing.assert_array_equal(image[raw != 1234], raw[raw != 1234] * 2.0 - 10.0)

    def test_radar(self, tmp_path):
        band = np.full((4, 128, 128), -11.0, np.float32)
        band[2, 5, 5] = np.nan
        band[2, 6, 6] = -9999
        for region in ("italy", "other", "third"):
            write_patch(tmp_path / f"data_raw/s1dsc/{region}_s1dsc_1.nc", sensor="s1dsc", layers={"VV": band})
        data = one(tmp_path, sensor="s1dsc")
        assert [(item.name, item.unit) for item in data.bands] == [("VV", "dB"), ("VH", "dB"), ("DEM", "m")]
        assert data.edition == "raw"
        sample = data[0]
        assert sample["image"][0, [5, 6], [5, 6]].isnan().all()
        assert sample["image"].isnan().sum() == 2
        assert (sample["mask"] == IGNORE).sum() == 0

    def test_scene_classes_by_name(self, tmp_path):
        write_patch(tmp_path / PATCH, clear=(4, 4, 5, 4))
        data = one(tmp_path, bands="SCL,B02")
        assert data.bands[0].unit == "class"
        assert (data[0]["image"][0] == 5).all()

    def test_through_the_cache(self, tmp_path):
        root = write_set(tmp_path)
        first = Sen12Landslides(root, "train")
        again = Sen12Landslides(root, "train")
        assert first.fingerprint() == again.fingerprint()
        assert len(first.fingerprint()) == 64
        np.testing.assert_array_equal(again[0]["image"], Sen12Landslides(root, "train", cache=False)[0]["image"])
        other = Sen12Landslides(root, "train", dates="pre")
        assert other.fingerprint() != first.fingerprint()


class TestEditions:
    def test_the_harmonized_edition_is_preferred_with_a_note(self, tmp_path, open_set):
        write_set(tmp_path, edition="raw")
        assert open_set(tmp_path).edition == "raw"
        write_set(tmp_path)
        data = open_set(tmp_path)
        assert data.edition == "harmonized"
        assert "removed" in data.bands[0].description
        assert open_set(tmp_path, edition="raw").edition == "raw"

    def test_raw_across_the_offset_warns(self, tmp_path, open_set):
        late = ("2022-01-10", "2022-01-20", "2022-01-30", "2022-02-10")
        write_set(tmp_path, edition="raw", dates=late, event="2022-01-22")
        with pytest.warns(DataWarning, match="2022-01-25 or later.*edition=harmonized"):
            data = open_set(tmp_path)
        assert any(note.startswith("offset: edition raw") for note in data.split_notes)

    def test_raw_numbers_below_zero_ran_over(self, tmp_path):
        band = np.full((4, 128, 128), 1500, np.int16)
        band[2, 2, 4] = -300
        for region in ("italy", "other", "third"):
            write_patch(tmp_path / f"data_raw/s2/{region}_s2_1.nc", layers={"B03": band})
        assert one(tmp_path, edition="raw", bands="B03")[0]["image"][0, 2, 4].isnan()

    @pytest.mark.parametrize("folder", ["data/s2", "s2", "harmonized/s2", "."])
    def test_other_layouts(self, tmp_path, folder, open_set):
        for region in ("italy", "hokkaido", "nepal"):
            write_patch(tmp_path / folder / f"{region}_s2_1.nc")
        assert len(open_set(tmp_path)) == 1


def write_official(root, splits, *, form="splits.json", place="tasks/S12LS-LD/harmonized/s2"):
    path = root / place / form
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "splits.json":
        content = {
            split: [
                {"id": name.replace("_s2", ""), "s2": f"s2/{name}.nc", "pixel_annotated": 600, "inventory": name[:5]}
                for name in names
            ]
            for split, names in splits.items()
        }
    else:
        content = {split: [f"data/final/s2/{name}.nc" for name in names] for split, names in splits.items()}
    path.write_text(json.dumps(content))
    return path


OFFICIAL = {
    "train": ["italy_s2_0", "hokkaido_s2_0", "nepal_s2_0"],
    "val": ["italy_s2_1"],
    "test": ["hokkaido_s2_1", "nepal_s2_1"],
}


class TestSplits:
    @pytest.mark.parametrize(
        ("form", "place"),
        [
            ("splits.json", "tasks/S12LS-LD/harmonized/s2"),
            ("splits.json", "tasks/harmonized/S12LS-LD/s2"),
            ("splits.json", "tasks/S12LS-LD-Harmonized/s2"),
            ("data_paths.json", "S12LS-LD/s2"),
        ],
    )
    def test_official(self, tmp_path, form, place, open_set):
        write_set(tmp_path)
        write_official(tmp_path, OFFICIAL, form=form, place=place)
        for split, names in OFFICIAL.items():
            data = open_set(tmp_path, split)
            assert sorted(patch.name for patch in data.patches) == sorted(names)
        assert any(note.startswith("leak: the official split") for note in data.split_notes)
        assert len(data.partition.unused) == 2

    def test_whole_regions_without_it(self, tmp_path, open_set):
        write_set(tmp_path)
        splits = [open_set(tmp_path, split) for split in ("train", "val", "test")]
        groups = [{patch.group for patch in data.patches} for data in splits]
        assert sum(map(len, groups)) == 4
        assert not groups[0] & groups[2]
        assert not groups[0] & groups[1]
        assert [patch.name for patch in open_set(tmp_path).patches] == [patch.name for patch in splits[0].patches]

    def test_a_split_by_group_is_used_on_request(self, tmp_path, open_set):
        write_set(tmp_path)
        write_official(tmp_path, OFFICIAL)
        data = open_set(tmp_path, split_by="group")
        assert not any("official" in note for note in data.split_notes)
        named = open_set(tmp_path, "test", train_groups="italy", val_groups="nepal", test_groups=["usa_alaska"])
        assert {patch.group for patch in named.patches} == {"usa_alaska"}

    def test_two_inventories_of_one_place_are_one_group(self, tmp_path, open_set):
        write_set(tmp_path, regions=("kyrgyzstan1", "kyrgyzstan2", "italy", "nepal"), each=1)
        data = open_set(tmp_path, train_groups="kyrgyzstan", val_groups="italy", test_groups="nepal")
        assert len(data) == 2
        assert {patch.group for patch in data.patches} == {"kyrgyzstan"}

    def test_neighbours_on_the_ground_are_neighbours_on_the_grid(self, tmp_path, open_set):
        write_set(tmp_path, each=1)
        write_patch(tmp_path / "data_harmonized/s2/italy_s2_5.nc", x=755200.0 + 1280, y=4882560.0 - 1280)
        write_patch(tmp_path / "data_harmonized/s2/italy_s2_6.nc", crs="EPSG:32633")
        data = open_set(tmp_path, train_groups="italy", val_groups="nepal", test_groups="hokkaido")
        places = {patch.name: (patch.row, patch.col) for patch in data.patches}
        row, col = places["italy_s2_0"]
        assert places["italy_s2_5"] == (row + 1, col + 1)
        assert places["italy_s2_6"][1] - col >= 9000

    def test_incomplete_official_split_is_refused(self, tmp_path, open_set):
        write_set(tmp_path)
        write_official(tmp_path, {**OFFICIAL, "val": ["italy_s2_77"]})
        with pytest.raises(DataError, match=r"1 of the 6 patches.*italy_s2_77\.nc.*split_by=group"):
            open_set(tmp_path)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("{", "not valid JSON"),
            ('{"train": []}', "not a valid official split: object missing required field val"),
            ('{"train": [{"s1asc": "a.nc"}], "val": [], "test": []}', "names no file of s2"),
            ('{"train": ["italy_s2_0.nc"], "val": ["italy_s2_0.nc"], "test": []}', "is in train and in val"),
        ],
    )
    def test_damaged_official_split(self, tmp_path, content, problem, open_set):
        write_set(tmp_path)
        write_official(tmp_path, OFFICIAL).write_text(content)
        with pytest.raises(DataError, match=problem):
            open_set(tmp_path)

    def test_a_missing_official_split_is_refused(self, tmp_path, open_set):
        write_set(tmp_path)
        with pytest.raises(DataError, match="no official split of S12LS-AD"):
            open_set(tmp_path, split_by="official", task="S12LS-AD")
        with pytest.raises(ConfigError, match="regions are named"):
            open_set(tmp_path, split_by="official", train_groups="italy")


class TestBadInput:
    def test_absent(self, tmp_path, open_set):
        with pytest.raises(DataError) as caught:
            open_set(tmp_path / "nowhere")
        text = str(caught.value)
        assert "data_harmonized/s2/REGION_s2_ID.nc" in text
        assert "huggingface.co/datasets/paulhoehn" in text
        assert "download=true" in text
        assert str(tmp_path / "nowhere") in text

    def test_default_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "kept"))
        with pytest.raises(DataError, match="kept/datasets/sen12landslides"):
            Sen12Landslides()

    def test_packed_archives_are_noticed(self, tmp_path, open_set):
        (tmp_path / "data_harmonized/s2").mkdir(parents=True)
        (tmp_path / "data_harmonized/s2/part01.tar.gz").write_bytes(b"x")
        with pytest.raises(DataError, match="tar -xzf"):
            open_set(tmp_path)

    @pytest.mark.parametrize("keep", [0, 100, 60_000])
    def test_truncated(self, tmp_path, keep):
        path = write_patch(tmp_path / PATCH)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"italy_s2_6982\.nc.*truncated"):
            one(tmp_path)[0]

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"drop": ["B05"]}, "has no variable 'B05'.*It holds"),
            ({"drop": ["MASK"]}, "has no variable 'MASK'"),
            ({"drop": ["SCL"]}, "has no variable 'SCL'"),
            ({"size": 64}, "64 x 64 pixels.*128 x 128"),
            ({"mask": np.full((128, 128), 255, np.uint8)}, "the mask holds 255"),
            (
                {
                    "layers": {
                        "MASK": np.arange(4, dtype=np.uint8)[:, None, None] % 2 * np.ones((4, 128, 128), np.uint8)
                    }
                },
                "differs",
            ),
            ({"attrs": {"event_date": "spring"}}, "event_date is 'spring'"),
        ],
        ids=["band", "mask", "classes", "size", "mask values", "mask in time", "event"],
    )
    def test_not_as_published(self, tmp_path, change, problem):
        write_patch(tmp_path / PATCH, **change)
        with pytest.raises(DataError, match=problem) as caught:
            one(tmp_path)[0]
        assert "italy_s2_6982.nc" in str(caught.value)

    def test_no_variables_and_no_dates(self, tmp_path):
        (tmp_path / PATCH).parent.mkdir(parents=True)
        with h5py.File(tmp_path / PATCH, "w"):
            pass
        with pytest.raises(DataError, match=r"no variable 'time'.*It holds nothing"):
            one(tmp_path)
        with h5py.File(tmp_path / PATCH, "w") as file:
            file["time"] = np.arange(4)
        with pytest.raises(DataError, match="the variable time holds no dates"):
            one(tmp_path)

    def test_a_broken_link_is_refused(self, tmp_path):
        (tmp_path / PATCH).parent.mkdir(parents=True)
        (tmp_path / PATCH).symlink_to(tmp_path / "gone.nc")
        with pytest.raises(DataError, match=r"italy_s2_6982\.nc: the file is missing"):
            one(tmp_path)

    def test_wrong_dimensions(self, tmp_path):
        path = write_patch(tmp_path / PATCH)
        with h5py.File(path, "r+") as file:
            flat = file["B02"][0]
            del file["B02"]
            file["B02"] = flat
        with pytest.raises(DataError, match=r"has the dimensions \(unnamed, unnamed\)"):
            one(tmp_path)[0]

    def test_dates_that_differ_in_number_are_not_stacked(self, tmp_path):
        write_patch(tmp_path / PATCH)
        write_patch(tmp_path / "data_harmonized/s2/italy_s2_2.nc")
        write_patch(tmp_path / "data_harmonized/s2/italy_s2_3.nc", dates=DATES[:3])
        with pytest.raises(DataError, match="italy_s2_3: has 3 dates, but most patches have 4"):
            one(tmp_path, dates="all")
        assert len(one(tmp_path)) == 3

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"sensor": "s3"}, ZooError),
            ({"dates": "some"}, ZooError),
            ({"bands": "B01"}, UnknownNameError),
            ({"bands": "B02,B02"}, ConfigError),
            ({"bands": ""}, ConfigError),
            ({"max_cloud": 2}, ConfigError),
            ({"max_cloud": "lots"}, ConfigError),
            ({"edition": "new"}, ZooError),
            ({"split": "all"}, UnknownNameError),
        ],
    )
    def test_options(self, tmp_path, options, error, open_set):
        write_set(tmp_path, each=1)
        with pytest.raises(error):
            open_set(tmp_path, **options)

    def test_two_files_of_one_name(self, tmp_path, open_set):
        write_patch(tmp_path / "data/s2/part1/italy_s2_1.nc")
        write_patch(tmp_path / "data/s2/part2/italy_s2_1.nc")
        with pytest.raises(DataError, match="two files are called"):
            open_set(tmp_path)

    def test_non_ascii_folder_and_a_changed_file(self, tmp_path, open_set):
        root = write_set(tmp_path / "Erdrutsche 滑坡", each=1)
        before = open_set(root, train_groups="italy", val_groups="nepal", test_groups="hokkaido")
        write_patch(root / "data_harmonized/s2/italy_s2_0.nc", event="2023-05-25")
        after = open_set(root, train_groups="italy", val_groups="nepal", test_groups="hokkaido")
        assert (before.events(0), after.events(0)) == (("2023-05-16",), ("2023-05-25",))
        assert before.fingerprint() != after.fingerprint()

    def test_damaged_index_is_made_again(self, tmp_path, open_set, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        root = write_set(tmp_path / "set", each=1)
        first = open_set(root)
        (kept,) = (tmp_path / "cache").rglob("sen12landslides-*.json")
        for damage in ("", "{}", '{"version": 1, "patches": {"italy_s2_0": {}}}'):
            kept.write_text(damage)
            assert open_set(root).patches == first.patches


def test_picture_is_in_natural_colours(tmp_path):
    write_patch(tmp_path / PATCH)
    figure = one(tmp_path).plot(one(tmp_path)[0])
    assert figure.axes[0].get_title() == "B04, B03, B02"
    both = one(tmp_path, dates="pre_post")
    assert both.plot(both[0]).axes[0].get_title() == "B04_post, B03_post, B02_post"
    radar = one(tmp_path, bands="B08,DEM")
    assert radar.plot(radar[0]).axes[0].get_title() == "B08"


def mirror(place: Path, archives: dict[str, bytes]) -> None:
    """Lay out what Hugging Face and GitHub would answer, for ZOO_MIRROR."""
    listing = [
        {
            "type": "file",
            "oid": "0" * 40,
            "size": len(content),
            "path": f"data_harmonized/s2/{name}",
            "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134},
        }
        for name, content in archives.items()
    ]
    api = place / f"huggingface.co/api/datasets/{REPOSITORY}/tree/{REVISION}/data_harmonized/s2"
    api.parent.mkdir(parents=True, exist_ok=True)
    api.write_text(json.dumps(listing))
    for name, content in archives.items():
        target = place / f"huggingface.co/datasets/{REPOSITORY}/resolve/{REVISION}/data_harmonized/s2/{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    official = f"raw.githubusercontent.com/PaulH97/Sen12Landslides/{SPLITS_REVISION}"
    write_official(place / official, {"train": ["italy_s2_0"], "val": ["nepal_s2_0"], "test": ["hokkaido_s2_0"]})


def packed(tmp_path: Path, names: list[str]) -> bytes:
    archive = tmp_path / "packed.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            tar.add(write_patch(tmp_path / "made" / f"{name}.nc"), arcname=f"{name}.nc")
    return archive.read_bytes()


def test_download(tmp_path, monkeypatch):
    archives = {"part01.tar.gz": packed(tmp_path, ["italy_s2_0", "nepal_s2_0"])}
    archives["part02.tar.gz"] = packed(tmp_path, ["hokkaido_s2_0"])
    mirror(tmp_path / "mirror", archives)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    root = tmp_path / "set"
    data = Sen12Landslides(root, "test", download=True, cache=False)
    assert [patch.name for patch in data.patches] == ["hokkaido_s2_0"]
    assert not list(root.rglob("*.tar.gz"))
    for archive in (tmp_path / "mirror").rglob("*.tar.gz"):
        archive.unlink()
    assert len(Sen12Landslides(root, "train", download=True, cache=False)) == 1


def test_download_of_other_bytes_is_refused(tmp_path, monkeypatch):
    mirror(tmp_path / "mirror", {"part01.tar.gz": packed(tmp_path, ["italy_s2_0"])})
    for archive in (tmp_path / "mirror").rglob("*.tar.gz"):
        content = bytearray(archive.read_bytes())
        content[-1] ^= 1
        archive.write_bytes(bytes(content))
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(ZooError, match=r"part01\.tar\.gz"):
        Sen12Landslides(tmp_path / "set", download=True)
    api = next(path for path in (tmp_path / "mirror").rglob("s2") if path.is_file())
    for listing in ("[]", "{}", "nothing"):
        api.write_text(listing)
        (tmp_path / "set/data_harmonized/s2/listing.json").unlink(missing_ok=True)
        with pytest.raises(DataError, match="listing"):
            Sen12Landslides(tmp_path / "set", download=True)


def test_the_harmonized_edition_causes_no_warning(tmp_path, open_set):
    write_set(tmp_path, dates=("2022-01-10", "2022-01-20", "2022-01-30"), event="2022-01-22", each=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_set(tmp_path)


def change(path, **variables):
    """Replace variables of a patch by arrays, or attributes where the name is "NAME.KEY"."""
    with h5py.File(path, "r+") as file:
        for name, value in variables.items():
            if "." in name:
                place, key = name.split(".")
                (file[place] if place else file).attrs[key] = value
            else:
                file[name][...] = value


class TestHostileFiles:
    @pytest.mark.parametrize(
        ("variables", "problem"),
        [
            ({"x": np.nan}, "the coordinate x is not in metres"),
            ({"x": 755200.0}, "the coordinate x is not in metres"),
            ({"y": -1e308 * np.linspace(1, 0.5, 128)}, "the coordinate y is not in metres"),
            ({"x": 1e-320 * np.arange(128)}, "the coordinate x is not in metres"),
            ({"time": 2**62}, "a date is missing or out of range"),
            ({"time": -(10**6)}, "a date is out of range"),
            ({"time.units": "days since 2023-13-45"}, "the variable time has the units 'days since 2023-13-45'"),
            ({"time.units": "days since 0000-01-01"}, "the variable time has the units"),
            ({"time.units": "fortnights since 2023-01-01"}, "the variable time holds no dates"),
            ({"time.units": 5}, "the variable time holds no dates"),
            ({".event_date": "2023-02-31"}, "event_date is '2023-02-31', not a date"),
            ({".event_date": "x" * 5000}, "event_date is 'x"),
            ({"B02.scale_factor": np.nan}, "scale_factor of variable '/B02' is nan"),
            ({"B02.add_offset": np.inf}, "add_offset of variable '/B02' is inf"),
            ({"B02.scale_factor": "two"}, "cannot be read as HDF5"),
        ],
        ids=str,
    )
    def test_values_that_make_no_sense(self, tmp_path, variables, problem):
        change(write_patch(tmp_path / PATCH), **variables)
        with pytest.raises(DataError, match=problem) as caught:
            one(tmp_path)[0]
        assert "italy_s2_6982.nc" in str(caught.value)

    def test_infinities_are_missing(self, tmp_path):
        band = np.full((4, 128, 128), -11.0, np.float32)
        band[2, 5, 5], band[2, 6, 6] = np.inf, -np.inf
        for region in ("italy", "other", "third"):
            write_patch(tmp_path / f"data_raw/s1dsc/{region}_s1dsc_1.nc", sensor="s1dsc", layers={"VV": band})
        image = one(tmp_path, sensor="s1dsc")[0]["image"]
        assert image[0, [5, 6], [5, 6]].isnan().all()
        assert image.isnan().sum() == 2

    @pytest.mark.parametrize(
        ("name", "shape", "problem"),
        [
            ("time", (2**40,), "claims .* GiB, too much for a patch"),
            ("time", (5000,), "the variable time holds no dates"),
            ("x", (2**40,), "claims .* GiB, too much for a patch"),
            ("MASK", (4, 2**20, 2**20), "claims .* GiB, too much for a patch"),
            ("B02", (2**31, 128, 128), "claims .* GiB, too much for a patch"),
        ],
    )
    def test_absurd_sizes_are_refused_at_once(self, tmp_path, name, shape, problem):
        path = write_patch(tmp_path / PATCH)
        with h5py.File(path, "r+") as file:
            units = file["time"].attrs["units"]
            del file[name]
            array = file.create_dataset(name, shape, "i2", chunks=tuple(min(side, 128) for side in shape))
            array.attrs["units"] = units
        assert path.stat().st_size < 2 << 20
        with pytest.raises(DataError, match=problem):
            one(tmp_path)[0]

    def test_fewer_dates_in_a_band_than_in_the_file(self, tmp_path):
        path = write_patch(tmp_path / PATCH)
        with h5py.File(path, "r+") as file:
            short = file["B02"][:2]
            del file["B02"]
            file["B02"] = short
            for axis, name in enumerate(("time", "y", "x")):
                file["B02"].dims[axis].label = name
        with pytest.raises(DataError, match="variable 'B02' is 128 x 128 pixels at 2 dates"):
            one(tmp_path)[0]

    def test_a_variable_in_another_file(self, tmp_path):
        path = write_patch(tmp_path / PATCH)
        with h5py.File(path, "r+") as file:
            del file["B02"]
            file["B02"] = h5py.ExternalLink(str(path), "/B03")
        with pytest.raises(DataError, match="variable 'B02' points to another file"):
            one(tmp_path)[0]

    @settings(max_examples=100, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_damaged_bytes_are_read_or_refused_with_a_clear_message(self, tmp_path_factory, disk, seed):
        folder = tmp_path_factory.getbasetemp() / "sen12"
        source = write_patch(folder / "sound.nc")
        (folder / "damaged.nc").write_bytes(disk.mutate(source.read_bytes(), seed))
        with suppress(ZooError):
            header = module.read_header(folder / "damaged.nc")
            with open_hdf5(folder / "damaged.nc") as file:
                for name in ("MASK", "SCL", "DEM"):
                    module._read_layer(file, name, header.order[0])
            module._locate(["a"], {"a": "italy"}, {"a": header})

    @pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, '{"train": 1, "val": 2, "test": 3}', "null", '"x"'])
    def test_official_splits_that_are_not_splits(self, tmp_path, content, open_set):
        write_set(tmp_path, each=1)
        write_official(tmp_path, OFFICIAL).write_text(content)
        with pytest.raises(DataError, match=r"not valid JSON|not a valid official split"):
            open_set(tmp_path)

    @pytest.mark.parametrize("name", ["...tar.gz", "a b.tar.gz", "-x.tar.gz", "part01.zip"])
    def test_listings_that_name_other_files_are_refused(self, tmp_path, monkeypatch, name):
        mirror(tmp_path / "mirror", {name: b"x"})
        monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
        with pytest.raises(DataError, match="the listing names no archives"):
            Sen12Landslides(tmp_path / "set", download=True)
