"""Groups and places from a table or from file names, splits of real folders, and the warning of leaks."""

from __future__ import annotations

import csv
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from zoo.datasets.base import DataWarning, Patch
from zoo.datasets.folder import Folder
from zoo.datasets.folder.grouping import _to_grid
from zoo.datasets.source import DataSource
from zoo.datasets.splits import LeakageWarning, neighbour_pairs
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError

NAMES = [f"{scene}_{number:02d}" for scene in ("S1", "S2", "S3") for number in range(12)]


def write_table(path, rows, delimiter=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def rows_for(names, step=1):
    return [
        {
            "tile": f"{name}.png",
            "scene": name[:2],
            "row": int(name[3:]) // 4 * step,
            "col": int(name[3:]) % 4 * step,
            "landslide_px": 5,
        }
        for name in names
    ]


@pytest.fixture
def tiles(disk, tmp_path):
    """36 PNG pairs of three scenes of 3 x 4 patches, without a table."""
    return disk.write_folder(tmp_path / "data", *disk.make_patches(36), names=NAMES)


@pytest.fixture
def tabled(tiles):
    """The same with tiles.csv."""
    write_table(tiles / "tiles.csv", rows_for(NAMES))
    return tiles


def refused(root, pattern, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        Folder(root, **options)
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_group_and_place_come_from_the_table(tabled):
    dataset = Folder(tabled, "test", group_column="scene", train_groups="S1", val_groups="S2", test_groups=["S3"])
    assert len(dataset) == 12
    assert dataset.patches[5] == Patch("S3_05", "S3", 1, 1)
    assert "groups: tiles.csv: group from column 'scene', location from columns 'row' and 'col'" in dataset.split_notes
    assert "split: by group, train S1; val S2; test S3" in dataset.split_notes
    landslide = sum(int((sample["mask"] == 1).sum()) for sample in dataset)
    share = landslide / (12 * 256)
    assert f"test: 12 patches, {landslide} landslide pixels ({share:.2%})" in dataset.split_notes


def test_validation_is_carved_from_training_with_a_guard(tabled):
    parts = {
        split: Folder(tabled, split, group_column="scene", train_groups="S1,S2", test_groups="S3")
        for split in ("train", "val", "test")
    }
    assert {patch.group for patch in parts["val"].patches} <= {"S1", "S2"}
    assert len(parts["test"]) == 12
    assert len(neighbour_pairs(parts["train"].patches, parts["val"].patches)) == 0
    names = [patch.name for part in parts.values() for patch in part.patches]
    assert len(set(names)) == len(names)


def test_without_options_the_table_is_found_and_scenes_are_kept_apart(tabled):
    dataset = Folder(tabled)
    assert "group from column 'scene' (found by its name)" in dataset.split_notes[1]
    assert "groups assigned by size" in dataset.split_notes[2]


@pytest.mark.parametrize(
    ("delimiter", "encoding", "write"),
    [
        (";", "utf-8-sig", lambda name: f"images/{name}.png"),
        ("\t", "utf-8", lambda name: name),
        (",", "utf-8", lambda name: f".\\images\\{name}.TIF"),
        (",", "utf-8", lambda name: f"mask_{name}.png"),
        ("|", "utf-16", lambda name: name),
        (" ", "utf-8", lambda name: name),
    ],
)
def test_tables_of_other_habits_are_read(tiles, delimiter, encoding, write):
    rows = [
        {"id": index, "event": row["scene"], "file": write(row["tile"][:-4])}
        for index, row in enumerate(rows_for(NAMES))
    ]
    write_table(tiles / "meta.csv", rows, delimiter, encoding)
    dataset = Folder(tiles, "test", test_groups="S2", train_groups="S1", val_groups="S3")
    assert {patch.name[:2] for patch in dataset.patches} == {"S2"}
    assert dataset.patches[0].row is None


def test_places_in_pixels_are_converted_to_patches_with_a_note(tiles):
    write_table(tiles / "tiles.csv", rows_for(NAMES, step=16))
    dataset = Folder(tiles, group_column="scene")
    assert max(patch.row for patch in dataset.patches) == 2
    assert "in pixels, so divided by 16 and 16" in dataset.split_notes[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "latin-1"])
def test_tables_of_other_encodings_are_read_with_a_note(tiles, encoding):
    rows = [{**row, "scene": f"Val d'Hérens {row['scene']}"} for row in rows_for(NAMES)]
    write_table(tiles / "tiles.csv", rows, encoding=encoding)
    dataset = Folder(tiles, group_column="scene")
    assert dataset.patches[0].group.startswith("Val d'Hérens S")
    if encoding == "cp1252":
        assert (
            "tiles.csv: the file is not UTF-8; it was read as Windows-1252 (Latin-1), group" in dataset.split_notes[1]
        )


def test_empty_lines_and_separators_at_the_ends_of_rows_are_skipped(tiles):
    lines = [f"{row['tile']},{row['scene']}," for row in rows_for(NAMES)]
    (tiles / "tiles.csv").write_text("\n".join(["", "tile,scene", "", *lines, ""]))
    assert Folder(tiles, "test", group_column="scene", test_groups="S3").patches[0].group == "S3"
    (tiles / "tiles.csv").write_text("\n".join(["tile,scene", "", *lines, lines[4]]))
    refused(tiles, r"lines 7 and 39 both describe 'S1_04'", group_column="scene")


def test_a_column_whose_name_has_spaces_is_one_column(tiles):
    (tiles / "tiles.csv").write_text("\n".join(["name of file", *(row["tile"] for row in rows_for(NAMES))]))
    assert "tiles.csv: no group, no location" in Folder(tiles, table="tiles.csv").split_notes[1]


def test_tabs_with_decimal_commas_are_read(tiles):
    rows = [{**row, "row": f"{row['row']},0", "col": f"{row['col']},0"} for row in rows_for(NAMES)]
    write_table(tiles / "tiles.csv", rows, delimiter="\t")
    dataset = Folder(tiles, "test", group_column="scene", test_groups="S3")
    assert dataset.patches[5] == Patch("S3_05", "S3", 1, 1)


def test_overlapping_places_in_pixels_touch_further(tiles):
    write_table(tiles / "tiles.csv", rows_for(NAMES, step=8))
    dataset = Folder(tiles, group_column="scene")
    assert dataset.reach == 2
    assert max(patch.row for patch in dataset.patches) == 2
    assert "in pixels, so divided by 8 and 8" in dataset.split_notes[1]


def test_irregular_places_in_pixels_are_noticed(tiles):
    rng = np.random.default_rng(0)
    rows = [
        {**row, "row": 97 * index + rng.integers(20), "col": 101 * index} for index, row in enumerate(rows_for(NAMES))
    ]
    write_table(tiles / "tiles.csv", rows)
    assert Folder(tiles, group_column="scene", place_unit="patches").reach == 1
    write_table(tiles / "tiles.csv", [{**row, "col": row["col"] + index % 3} for index, row in enumerate(rows)])
    refused(tiles, "row and column look like pixels.*place_unit=pixels or place_unit=patches", group_column="scene")
    dataset = Folder(tiles, group_column="scene", place_unit="pixels")
    assert dataset.reach == 16
    assert Folder(tiles, group_column="scene", place_unit="patches").reach == 1


def test_the_georeference_locates_patches_that_no_table_does(disk, tmp_path):
    """A random split of neighbouring patches leaks; their corners say that they are neighbours."""
    root = disk.write_folder(tmp_path / "data", *disk.make_patches(36), names=NAMES, suffix=".tif")

    def place(corner_of, crs_of=lambda index: "EPSG:32643"):
        for index, name in enumerate(NAMES):
            with rasterio.open(root / "images" / f"{name}.tif", "r+") as file:
                file.crs, file.transform = crs_of(index), from_origin(*corner_of(index), 10, 10)

    side = 10 * Folder(root).read(0)[0].shape[-1]
    place(lambda index: (600_000 + index % 6 * side, 3_800_000 - index // 6 * side))
    dataset = Folder(root, split="train")
    assert dataset.reach == 1
    assert "locations from the georeference" in "".join(dataset.split_notes)
    assert any("spatial blocks" in note for note in dataset.split_notes)
    located = {patch.name: (patch.row, patch.col) for patch in dataset._located.patches}
    assert located == {name: divmod(index, 6) for index, name in enumerate(NAMES)}
    place(lambda index: (600_000, 3_800_000))
    assert "random" in "".join(Folder(root).split_notes)
    place(lambda index: (600_000 + index * side, 3_800_000), lambda index: f"EPSG:3264{3 + index % 2}")
    assert "random" in "".join(Folder(root).split_notes)


def test_the_unit_of_a_few_ambiguous_locations_must_be_given():
    """Too few places show no step; places of one patch a group have no distances."""
    names = ["a", "b", "c", "d"]
    few = [Patch("a", "S", 0, 0), Patch("b", "S", 37, 101), Patch("c", "S", 150, 20), Patch("d", "S", 90, 161)]
    for placed in (few, few[:2]):
        with pytest.raises(DataError, match="row and column look like pixels") as caught:
            _to_grid(placed, (64, 64), "auto", None)
        assert "place_unit=pixels" in str(caught.value.hint)
        assert _to_grid(placed, (64, 64), "patches", None)[0] == placed
        assert _to_grid(placed, (64, 64), "pixels", None)[2]
    near = [Patch(name, "S", 2 * row, row) for row, name in enumerate(names)]
    apart = [replace(patch, group=patch.name) for patch in few]
    for placed in (near, apart):
        assert _to_grid(placed, (64, 64), "auto", None) == (placed, 1, "")


@pytest.mark.parametrize(
    "about", ['{"size": 2147483648, "stride": 8}', '{"size": 16, "stride": 0}', '{"size": 16}', "{"]
)
def test_a_grid_file_that_does_not_fit_the_patches_is_refused(tabled, about):
    (tabled / "patches.json").write_text(about)
    refused(tabled, r"patches\.json: (says that patches have|not a valid file|not valid JSON)", group_column="scene")


def test_a_grid_file_gives_the_overlap_of_patches(tabled):
    (tabled / "patches.json").write_text('{"size": 16, "stride": 4, "scenes": []}')
    assert Folder(tabled, group_column="scene").reach == 4


def test_other_splits_share_the_files_that_were_read(tabled, monkeypatch):
    options = {"group_column": "scene", "train_groups": "S1", "val_groups": "S2"}
    opened = DataSource("folder", {"root": str(tabled), **options}).open_splits()
    assert list(opened) == ["train", "val", "test"]
    for split, dataset in opened.items():
        alone = Folder(tabled, split, **options)
        assert dataset.split == split
        assert dataset.patches == alone.patches
        assert dataset.fingerprint() == alone.fingerprint()
        assert dataset.split_notes == alone.split_notes
    monkeypatch.setattr("zoo.datasets.folder.folder_dataset.find_folders", None)
    assert opened["train"].with_split("test").patches == opened["test"].patches
    with pytest.raises(UnknownNameError, match="unknown split 'all'"):
        opened["train"].with_split("all")


def test_group_and_place_come_from_the_file_names(disk, tmp_path):
    names = [f"kerala_{row}_{col}" for row in range(6) for col in range(6)]
    root = disk.write_folder(tmp_path, *disk.make_patches(36), names=names)
    pattern = r"^(?P<group>[a-z]+)_(?P<row>\d+)_(?P<col>\d+)$"
    with pytest.warns(LeakageWarning):
        dataset = Folder(root, "test", group_pattern=pattern, split_by="random")
    assert all(
        patch == Patch(f"kerala_{patch.row}_{patch.col}", "kerala", patch.row, patch.col) for patch in dataset.patches
    )
    simple = Folder(root, "test", group_pattern=r"_(\d)_", train_groups="0,1,2", val_groups="3")
    assert {patch.group for patch in simple.patches} == {"4", "5"}


def test_random_split_of_neighbours_is_warned_of(tabled):
    with pytest.warns(
        LeakageWarning, match=r"\d+ of \d+ test patches lie within 1 of a train patch \(S\d_\d\d and S\d_\d\d\)"
    ) as caught:
        dataset = Folder(tabled, split_by="random")
    assert len(caught) == 1
    assert dataset.split_notes[-1].startswith("leak: the split leaks")
    assert Path(caught[0].filename).samefile(__file__)


@pytest.mark.parametrize("options", [{"split_by": "block", "fractions": "8,1,1"}, {"split_by": "group"}])
def test_guarded_splits_are_not_warned_of(tabled, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Folder(tabled, **options)


def test_a_split_without_places_has_a_note(tiles):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = Folder(tiles)
    assert "split: patches shuffled at random (seed 0) 6:2:2" in dataset.split_notes
    assert any("locations are unknown" in note for note in dataset.split_notes)


def test_split_does_not_depend_on_the_order_of_the_file_system(tabled, monkeypatch):
    first = Folder(tabled, split_by="block").patches
    true_walk = os.walk

    def backwards(top, **options):
        for parent, folders, names in true_walk(top, **options):
            yield parent, folders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert Folder(tabled, split_by="block").patches == first


def test_wrong_column_suggests_the_right_one(tabled):
    refused(
        tabled, r"tiles\.csv: unknown column 'scenes'\. Did you mean 'scene'\?", UnknownNameError, group_column="scenes"
    )
    refused(tabled, r"unknown column 'colum'", UnknownNameError, col_column="colum")


def test_wrong_group_suggests_the_right_one(tabled):
    refused(
        tabled,
        r"option train_groups: unknown group 'S4'\. (Did you mean|There are)",
        UnknownNameError,
        group_column="scene",
        train_groups="S4",
        test_groups="S1",
    )


def test_group_column_without_a_table(tiles):
    refused(tiles, r"no CSV file with a column 'scene'", group_column="scene")
    refused(tiles, r"no table 'tiles\.csv'", table="tiles.csv")


def test_table_that_names_no_file(tiles):
    write_table(tiles / "tiles.csv", [{"who": "x", "scene": "S1"}])
    refused(
        tiles,
        r"tiles\.csv: no column names the image files\. One should contain names such as 'S1_00'",
        group_column="scene",
    )
    assert Folder(tiles).patches[0].group == ""


def test_files_without_a_row_and_rows_without_a_file(tiles):
    rows = rows_for(NAMES)
    write_table(tiles / "tiles.csv", rows[3:])
    refused(tiles, r"tiles\.csv: 3 of 36 images have no row: S1_00, S1_01, S1_02", group_column="scene")
    write_table(tiles / "tiles.csv", [*rows, {**rows[0], "tile": "S9_00.png"}])
    refused(tiles, r"1 of 37 rows name no image, the first at line 38: 'S9_00\.png'", group_column="scene")
    write_table(tiles / "tiles.csv", [*rows, rows[4]])
    refused(tiles, r"lines 6 and 38 both describe 'S1_04'", group_column="scene")


def test_broken_tables(tiles):
    rows = rows_for(NAMES)
    table = tiles / "tiles.csv"
    write_table(table, [{**rows[0], "row": "north"}, *rows[1:]])
    refused(tiles, r"line 2: 'north' in column 'row' is not an integer", group_column="scene")
    write_table(table, [{**rows[0], "scene": ""}, *rows[1:]])
    refused(tiles, r"line 2: column 'scene' is empty", group_column="scene")
    table.write_text("tile,scene\nS1_00.png\n")
    refused(tiles, r"line 2 does not have 2 fields", group_column="scene")
    table.write_text("tile,scene\n")
    refused(tiles, r"has a header but no rows", group_column="scene")
    table.write_text("")
    refused(tiles, r"tiles\.csv: is empty", group_column="scene")
    table.write_text("tile,scene,row,scene\nS1_00.png,A,1,B\n")
    refused(tiles, r"two columns are named 'scene'\. Rename one", group_column="scene")
    table.write_text("tile,scene\n" + "x" * 200_000 + ",A\n")
    refused(tiles, r"line \d is not valid CSV \(field larger than field limit", group_column="scene")


def test_several_tables_must_be_named(tabled):
    write_table(tabled / "other.csv", rows_for(NAMES))
    refused(tabled, r"several tables fit: other\.csv, tiles\.csv", group_column="scene")
    dataset = Folder(tabled, group_column="scene", table="tiles.csv")
    assert dataset.patches[0].group in {"S1", "S2", "S3"}


def test_options_that_contradict_each_other(tabled):
    refused(tabled, "not from both", ConfigError, group_column="scene", group_pattern="^(S1)")
    refused(tabled, "groups are named, but the split is by random", ConfigError, train_groups="S1", split_by="random")


def test_real_tiles_split_by_scene(real_rgb):
    parts = {
        split: Folder(real_rgb, split, group_column="scene", train_groups="S1", test_groups="S2,S3,S4")
        for split in ("train", "val", "test")
    }
    train, val, test = parts.values()
    assert len(train._store.pairs) == 1980
    assert len(test) == 114 + 48 + 77
    assert len(train) + len(val) + len(train.partition.guard) == 1741
    assert [band.name for band in train.bands] == ["red", "green", "blue"]
    assert train[0]["image"].shape == (3, 128, 128)
    assert len(neighbour_pairs(train.patches, val.patches)) == 0
    assert len({part.fingerprint() for part in parts.values()}) == 3
    # The table counts the landslide pixels of every mask.
    with (real_rgb / "tiles.csv").open() as stream:
        counted = {row["tile"][:-4]: int(row["landslide_px"]) for row in csv.DictReader(stream)}
    for part in parts.values():
        for index, patch in enumerate(part.patches):
            assert int((part.read(index)[1] == 1).sum()) == counted[patch.name]


def test_random_split_of_the_real_tiles_leaks(real_rgb):
    with pytest.warns(LeakageWarning, match=r"379 of 396 test patches lie within 1 of a train patch"):
        Folder(real_rgb, split_by="random")


def test_real_column_blocks_of_one_scene_do_not_leak(real_rgb):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = Folder(real_rgb, split_by="block")
    assert len(dataset.partition.test) > 200
    assert np.isfinite(dataset[0]["image"].numpy()).all()


def test_options_may_be_texts_or_numbers(disk, tmp_path):
    names = [f"{scene}_{number}" for scene in (1, 2, 3) for number in range(4)]
    root = disk.write_folder(tmp_path, *disk.make_patches(12), names=names)
    texts = {"guard": "1", "seed": "3", "memory_limit": "0", "pixel_size": "10"}
    dataset = Folder(root, "test", group_pattern=r"^(\d)_", train_groups=1, val_groups=[2], test_groups="3", **texts)
    assert {patch.group for patch in dataset.patches} == {"3"}
    assert dataset.pixel_size == 10


def test_a_folder_with_the_name_of_a_data_set_is_named_with_a_dot(disk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disk.write_folder(tmp_path / "bijie", *disk.make_patches(12))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"not the folder bijie/; for the folder, write \./bijie"):
        DataSource.parse("bijie").open("train")
    source = DataSource.parse("./bijie", {"split_by": "random"})
    assert source.name == "folder"
    assert len(source.open("train")) == 7
    (tmp_path / "synthetic").mkdir()
    with pytest.warns(DataWarning, match=r"for the folder, write \./synthetic"):
        DataSource("synthetic", {"scenes": 3}).open("test")


@pytest.mark.parametrize("name", ["split", "name", "transforms", "progress"])
def test_a_data_option_with_the_name_of_an_argument_is_refused(tabled, name):
    with pytest.raises(ConfigError, match=f"'{name}' is not an option of a data set"):
        DataSource("folder", {"root": str(tabled), name: "x"}).open("train")


@pytest.mark.parametrize("name", ["x" * 300, "/tmp/" + "x" * 300, "~nobody/x", "a\0b"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(ZooError):
        DataSource.parse(name)
