"""Tables of places: formats, missing codes, classes, labels, coordinates, leaks, and files that are not right."""

from __future__ import annotations

import random
import re
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import openpyxl
import pandas as pd
import pytest
import shapely

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.risk.tables import RiskTable, metres_around, read_table, single_feature_auc


def frame(rows: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "presence": [0, 1] * (rows // 2),
            "slope": rng.uniform(0, 50, rows),
            "rock": rng.choice(["shale", "chalk"], rows),
            "X": rng.uniform(500_000, 510_000, rows),
            "Y": rng.uniform(4_000_000, 4_010_000, rows),
        }
    )


def write(data: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        data.to_parquet(path)
    elif path.suffix == ".xlsx":
        data.to_excel(path, index=False)
    elif path.name.startswith("semicolons"):
        data.to_csv(path, index=False, sep=";", decimal=",")
    else:
        data.to_csv(path, index=False, sep="\t" if path.suffix == ".txt" else ",")
    return path


def read(path: Path, label: str = "presence", **options: Any) -> RiskTable:
    """Read a table, with its rows in the order of the file."""
    table = read_table(path, label, **options)
    assert table.rows is not None
    return table.take(np.argsort(table.rows))


@pytest.mark.parametrize("name", ["a.csv", "semicolons.csv", "tabs.txt", "a.parquet", "a.xlsx", "Übersicht.csv"])
def test_every_format_holds_the_same_table(tmp_path: Path, name: str) -> None:
    data = frame()
    table = read(write(data, tmp_path / name), coords=("X", "Y"))
    assert list(table.features) == ["slope", "rock"]
    np.testing.assert_allclose(table.features["slope"], data["slope"])
    assert table.features["rock"].dtype == "category"
    np.testing.assert_array_equal(table.labels, data["presence"])
    np.testing.assert_allclose(table.coordinates, data[["X", "Y"]])


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_a_vector_file_has_its_places(tmp_path: Path, suffix: str) -> None:
    data = frame().drop(columns=["X", "Y"])
    lon, lat = np.linspace(103, 103.5, 40), np.linspace(31, 31.4, 40)
    places = geopandas.GeoDataFrame(data, geometry=geopandas.points_from_xy(lon, lat), crs="EPSG:4326")
    places.to_file(tmp_path / f"ä{suffix}")
    table = read_table(tmp_path / f"ä{suffix}", "presence")
    assert list(table.features) == ["slope", "rock"]
    assert table.coordinates is not None
    # 0.5 degrees of longitude at 31.2 degrees north are 47.7 km, 0.4 of latitude 44.4 km.
    assert np.ptp(table.coordinates, axis=0) == pytest.approx([47_700, 44_400], rel=0.02)


def test_polygons_are_placed_at_their_centroids_in_metres(tmp_path: Path) -> None:
    squares = [shapely.box(1000 * i, 0, 1000 * i + 100, 100) for i in range(40)]
    geopandas.GeoDataFrame(frame(), geometry=squares, crs="EPSG:32648").to_file(tmp_path / "a.gpkg")
    table = read(tmp_path / "a.gpkg", drop=("X", "Y"))
    assert table.coordinates is not None
    np.testing.assert_allclose(table.coordinates, [[1000 * i + 50, 50] for i in range(40)])


def test_vector_files_without_places_are_refused(tmp_path: Path) -> None:
    data = frame()
    points = geopandas.points_from_xy(data["X"], data["Y"])
    geopandas.GeoDataFrame(data, geometry=points).to_file(tmp_path / "none.gpkg")
    with pytest.raises(DataError, match="no coordinate reference system"):
        read_table(tmp_path / "none.gpkg", "presence")
    holes = [None, *points[1:]]
    geopandas.GeoDataFrame(data, geometry=holes, crs="EPSG:32648").to_file(tmp_path / "holes.gpkg")
    with pytest.raises(DataError, match="row 1 has no geometry"):
        read_table(tmp_path / "holes.gpkg", "presence")
    two = geopandas.GeoDataFrame(data, geometry=points, crs="EPSG:32648")
    two.to_file(tmp_path / "two.gpkg", layer="one")
    two.to_file(tmp_path / "two.gpkg", layer="other")
    with pytest.raises(ConfigError, match="several layers"):
        read_table(tmp_path / "two.gpkg", "presence")


def test_missing_codes_are_named_and_kept_where_they_may_be_values(tmp_path: Path) -> None:
    data = frame()
    data.loc[[3, 5], "slope"] = -9999
    data["depth"] = np.linspace(-12_000, 0, 40)
    data.loc[7, "depth"] = -9999
    table = read_table(write(data, tmp_path / "a.csv"), "presence")
    assert table.features["slope"].isna().sum() == 2
    assert "slope: 2 values of -9999 were set to missing" in table.notes
    assert table.features["depth"].isna().sum() == 0
    assert any("depth: 1 values of -9999 are kept" in note for note in table.notes)


def test_categorical_columns_are_found_by_name_or_given(tmp_path: Path) -> None:
    data = frame().assign(litho=[1, 2, 3, -9999] * 10, order=[1, 2] * 20)
    path = write(data, tmp_path / "a.csv")
    table = read_table(path, "presence")
    assert list(table.features["litho"].cat.categories) == ["1", "2", "3"]
    assert table.features["litho"].isna().sum() == 10
    assert table.features["order"].dtype == np.float64
    told = read_table(path, "presence", categorical=("order",))
    assert {told.features[name].dtype.name for name in ("order", "rock")} == {"category"}
    assert told.features["litho"].dtype == np.float64


def test_texts_among_numbers_are_counted(tmp_path: Path) -> None:
    data = frame()
    data["slope"] = data["slope"].astype(object)
    data.loc[4, "slope"] = "steep"
    table = read_table(write(data, tmp_path / "a.csv"), "presence")
    assert table.features["slope"].isna().sum() == 1
    assert "slope: 1 values that are not numbers were set to missing" in table.notes


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("yes", "no"), ("1.0", "0.0"), ("landslide", "none")])
def test_labels_may_be_words(tmp_path: Path, yes: str, no: str) -> None:
    data = frame().assign(presence=[no, yes] * 20)
    np.testing.assert_array_equal(read(write(data, tmp_path / "a.csv")).labels, [0, 1] * 20)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"presence": [0, 1, 2, 1] * 10}, "neither yes nor no"),
        ({"presence": [1] * 40}, "every row is a landslide"),
        ({"presence": [0] * 40}, "every row is a place without"),
        ({"presence": [np.nan] * 40}, "no row has a label"),
        ({"presence": [3.0, 1.0] * 20}, "label '3.0' in row 1"),
        ({"Y": [np.nan, *range(39)]}, "coordinate 'nan' in row 1"),
        ({"slope": [np.inf, *range(39)]}, "infinite value in row 1"),
        ({"X": ["here", *range(39)]}, "row 1 is not a number"),
        ({"slope": [1.0] * 40, "rock": [2.0] * 40}, "no feature is left"),
    ],
)
def test_tables_that_cannot_be_learnt_from(tmp_path: Path, change: dict[str, list[object]], problem: str) -> None:
    path = write(frame().assign(**change), tmp_path / "a.csv")
    with pytest.raises(DataError, match=problem) as caught:
        read_table(path, "presence", coords=("X", "Y"))
    assert "a.csv" in str(caught.value)


def test_one_coordinate_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both column 'X'"):
        read_table(write(frame(), tmp_path / "a.csv"), "presence", coords=("X", "X"))


def test_rows_without_a_group_are_reported(tmp_path: Path) -> None:
    data = frame().assign(event=["a", "b", np.nan, "c"] * 10)
    table = read_table(write(data, tmp_path / "a.csv"), "presence", group="event")
    assert "10 rows without event form a separate group" in table.notes
    assert table.groups is not None
    assert len(set(table.groups)) == 4


def test_one_class_is_a_constant(tmp_path: Path) -> None:
    data = frame().assign(litho=3, name="granite", land_cover=-9999)
    table = read_table(write(data, tmp_path / "a.csv"), "presence")
    assert not {"litho", "name", "land_cover"} & set(table.features.columns)
    assert {"litho: left out, it is 3 everywhere", "name: left out, it is granite everywhere"} <= set(table.notes)
    assert "land_cover: left out, it is empty" in table.notes


def test_constant_columns_are_left_out_and_named(tmp_path: Path) -> None:
    data = frame().assign(flat=3.0, nothing=np.nan)
    table = read_table(write(data, tmp_path / "a.csv"), "presence")
    assert "flat: left out, it is 3 everywhere" in table.notes
    assert "flat" not in table.features
    assert "nothing" not in table.features


def test_unknown_columns_have_a_suggestion(tmp_path: Path) -> None:
    path = write(frame(), tmp_path / "a.csv")
    with pytest.raises(UnknownNameError, match="Did you mean 'presence'"):
        read_table(path, "presense")
    for options in ({"drop": ("slop",)}, {"coords": ("X", "y")}, {"group": "rok"}, {"categorical": ("rocks",)}):
        with pytest.raises(UnknownNameError, match="Did you mean"):
            read_table(path, "presence", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx", ".gpkg", ".geojson"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 not a table"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises((DataError, UnknownNameError)) as caught:
        read_table(path, "presence")
    assert "bad" in str(caught.value)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    for suffix in (".parquet", ".xlsx"):
        path = write(frame(), tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError):
            read_table(path, "presence")
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv", "presence")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_table(tmp_path / "a.doc", "presence")


def test_a_feature_that_gives_the_answer_away_is_doubted(tmp_path: Path) -> None:
    data = frame().assign(volume=lambda table: table["presence"] * 100.0 + np.arange(40) / 100)
    table = read_table(write(data, tmp_path / "a.csv"), "presence", coords=("X", "Y"))
    assert len(table.warnings) == 1
    assert "--drop volume" in table.warnings[0]
    assert single_feature_auc(-data["volume"], data["presence"].to_numpy()) == 1.0


def test_wenchuan_leaks_when_nothing_is_dropped(shared_data: Path) -> None:
    path = shared_data / "wenchuan" / "slope_units.csv"
    leaky = read_table(path, "presence", coords=("POINT_X", "POINT_Y"))
    assert [text.split()[0] for text in leaky.warnings] == ["area_slide", "count"]
    clean = read_table(path, "presence", coords=("POINT_X", "POINT_Y"), drop=("area_slide", "count"))
    assert clean.warnings == ()
    assert (len(clean), int(clean.labels.sum()), clean.features.shape[1]) == (19_592, 14_291, 17)
    assert clean.coordinates is not None
    # 0.99 degrees of longitude at 31 degrees north, in metres.
    assert np.ptp(clean.coordinates, axis=0) == pytest.approx([94_000, 88_000], rel=0.02)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    data = frame().assign(event=["a", "b", "c", "d"] * 10)
    shuffled = data.sample(frac=1, random_state=1)
    options: dict[str, Any] = {"coords": ("X", "Y"), "group": "event"}
    one, other = (read_table(table, "presence", **options) for table in (data, shuffled))
    pd.testing.assert_frame_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.coordinates, other.coordinates)
    np.testing.assert_array_equal(one.groups, other.groups)
    assert one.rows is not None
    np.testing.assert_array_equal(data["slope"].to_numpy()[one.rows], one.features["slope"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
@pytest.mark.parametrize("names", [("y", "a", "y"), ("y", "a", "y ")])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, suffix: str, names: tuple[str, ...]) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".xlsx":
        pd.DataFrame([[0, 1.0, 0], [1, 2.0, 1]]).to_excel(path, index=False, header=list(names))
    else:
        separator = "\t" if suffix == ".tsv" else ","
        path.write_text("\n".join(separator.join(row) for row in (names, ("0", "1", "0"), ("1", "2", "1"))))
    with pytest.raises(DataError, match="two columns are named 'y'"):
        read_table(path, "y")


def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(DataError, match="control characters"):
        read_table(frame().rename(columns={"slope": "\x1b[31mslope"}), "presence", drop=("X", "Y"))
    table = read_table(frame().assign(rock="\x1b[31mchalk"), "presence", drop=("X", "Y"))
    assert "rock: left out, it is \N{REPLACEMENT CHARACTER}[31mchalk everywhere" in table.notes


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    frame().assign(gestein=["Löss", "Kalk"] * 20).to_csv(path, index=False, encoding=encoding)
    table = read(path, coords=("X", "Y"))
    assert list(table.features["gestein"].cat.categories) == ["Kalk", "Löss"]
    assert any("Windows-1252" in note for note in table.notes) == (encoding in ("latin-1", "cp1252"))


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_decimal_commas_are_numbers(tmp_path: Path, separator: str) -> None:
    data = frame()
    data["slope"] = data["slope"].round(2)
    path = tmp_path / "t.csv"
    data.to_csv(path, index=False, sep=separator, decimal=",")
    table = read(path, coords=("X", "Y"))
    np.testing.assert_allclose(table.features["slope"], data["slope"])
    assert any("decimal signs in slope" in note for note in table.notes)


@pytest.mark.parametrize("line", ["sep=;\n", "\ufeffSEP=;\r\n", '\n"sep=;"\n'])
def test_a_line_that_states_the_separator_is_no_heading(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{number % 2};{number},5" for number in range(40)]
    path.write_text(line + "\n".join(["presence;slope,a", *rows]), newline="")
    assert set(read_table(path, "presence").features["slope,a"]) == {number + 0.5 for number in range(40)}
    path.write_text(line + "\n".join(["presence;slope", *rows[:3], "1"]), newline="")
    with pytest.raises(DataError, match=f"line {5 + line.count(chr(10))} has 1 fields"):
        read_table(path, "presence")


def test_points_of_thousands_beside_decimal_commas_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{number % 2};{number},5;{number + 1}.575" for number in range(40)]
    path.write_text("\n".join(["presence;slope;area", *rows]))
    with pytest.raises(
        DataError, match=r"column 'area': the point in '1.575' may be a decimal sign or group thousands"
    ):
        read_table(path, "presence")
    path.write_text("\n".join(["presence;slope;area", *rows, "0;7,5;12.5"]))
    assert 12.5 in set(read_table(path, "presence").features["area"])


@pytest.mark.parametrize("text", ["−{}", "–{}", "'{}", "{}·5"])
def test_numbers_with_typographic_signs_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{number % 2},{number if number % 4 else text.format(number + 1)}" for number in range(40)]
    path.write_text("\n".join(["presence,curvature", *rows]))
    with pytest.raises(DataError, match="is a number with a sign that is not part of a number"):
        read_table(path, "presence")


def test_commas_of_thousands_are_refused_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    rows = [f"{number % 2}\t{number + 1},{100 + number}" for number in range(40)]
    path.write_text("\n".join(["presence\tarea", *rows]))
    with pytest.raises(DataError, match="decimal sign or group thousands"):
        read_table(path, "presence")


@pytest.mark.parametrize("code", [-999.0, -9999.0, 999.0, 9999.0, -3.4028234663852886e38, 9.96921e36])
def test_missing_codes_of_every_kind_are_found(code: float) -> None:
    data = frame()
    data.loc[[3, 5], "slope"] = code
    table = read_table(data, "presence", drop=("X", "Y"))
    assert table.features["slope"].isna().sum() == 2
    assert any(note.startswith("slope: 2 values of") for note in table.notes)


@pytest.mark.parametrize("code", [-99.0, -999.0, -32767.0])
@pytest.mark.parametrize("low", [-5.0, 0.0, 500.0])
def test_a_negative_code_below_heights_is_missing_however_large_they_are(code: float, low: float) -> None:
    data = frame().assign(height=np.linspace(low, 3500, 40))
    data.loc[[3, 5], "height"] = code
    assert read_table(data, "presence", drop=("X", "Y")).features["height"].isna().sum() == 2


def test_a_code_that_the_user_names_is_missing_wherever_it_stands() -> None:
    data = frame().assign(ndvi=np.linspace(-0.2, 0.8, 40))
    data.loc[[3, 5], "ndvi"] = -1.0
    assert read_table(data, "presence", drop=("X", "Y")).features["ndvi"].isna().sum() == 0
    assert read_table(data, "presence", drop=("X", "Y"), missing=(-1.0,)).features["ndvi"].isna().sum() == 2
    curved = frame().assign(curvature=np.linspace(-60, 90, 40)).replace({"curvature": {-60.0: -99.0}})
    notes = read_table(curved, "presence", drop=("X", "Y")).notes
    assert "curvature: 1 values of -99 are kept, because they are not far from the others" in notes


def test_numbers_that_may_be_measured_are_kept() -> None:
    heights = frame().assign(height=np.linspace(200, 1400, 40))
    heights.loc[9, "height"] = 999.0
    edge = frame().assign(height=np.linspace(0, 999, 40))
    for data in (heights, edge):
        table = read_table(data, "presence", drop=("X", "Y"))
        assert table.features["height"].isna().sum() == 0


@pytest.mark.parametrize(
    ("names", "lon", "lat"), [(("a", "b"), 103.0, 31.0), (("lat", "lon"), 11.0, 46.0), (("latitude", "Long"), 11, 46)]
)
def test_latitude_before_longitude_is_refused(names: tuple[str, str], lon: float, lat: float) -> None:
    rng = np.random.default_rng(0)
    data = frame().drop(columns=["X", "Y"])
    data[names[0]], data[names[1]] = lat + rng.uniform(size=40), lon + rng.uniform(size=40)
    with pytest.raises(DataError, match=f"--coords {names[1]},{names[0]}"):
        read_table(data, "presence", coords=names)
    assert read_table(data, "presence", coords=(names[1], names[0])).coordinates is not None


def test_a_missing_code_is_not_a_coordinate() -> None:
    data = frame()
    data.loc[4, "X"] = -9999.0
    with pytest.raises(DataError, match="row 5 is not a number or marks a missing value"):
        read_table(data, "presence", coords=("X", "Y"))


def test_degrees_become_metres_on_the_ground_also_across_the_antimeridian() -> None:
    # A degree of longitude at 60 degrees north on WGS 84 has 55,800 m, a degree of latitude 111,413 m.
    east = metres_around(np.array([10.0, 11.0]), np.array([60.0, 60.0]))
    assert np.linalg.norm(east[1] - east[0]) == pytest.approx(55_800, rel=1e-3)
    across = metres_around(np.array([179.5, -179.5]), np.array([60.0, 60.0]))
    assert np.linalg.norm(across[1] - across[0]) == pytest.approx(55_800, rel=1e-3)
    north = metres_around(np.array([10.0, 10.0]), np.array([59.5, 60.5]))
    assert np.linalg.norm(north[1] - north[0]) == pytest.approx(111_413, rel=1e-3)


def test_places_in_web_mercator_are_in_metres_on_the_ground(tmp_path: Path) -> None:
    data = frame().drop(columns=["X", "Y"])
    points = geopandas.points_from_xy(np.linspace(75, 75.1, 40), np.full(40, 60.0), crs="EPSG:4326").to_crs(3857)
    geopandas.GeoDataFrame(data, geometry=points, crs="EPSG:3857").to_file(tmp_path / "a.gpkg")
    table = read(tmp_path / "a.gpkg")
    assert table.coordinates is not None
    assert np.ptp(table.coordinates[:, 0]) == pytest.approx(5580, rel=0.01)


def test_columns_in_a_named_projection_are_in_metres_on_the_ground(tmp_path: Path) -> None:
    points = geopandas.points_from_xy(np.linspace(75, 75.1, 40), np.full(40, 60.0), crs="EPSG:4326").to_crs(3857)
    data = frame().assign(X=points.x, Y=points.y)
    named = read_table(data, "presence", coords=("X", "Y"), crs="EPSG:3857")
    assert np.ptp(named.coordinates[:, 0]) == pytest.approx(5580, rel=0.01)
    unnamed = read_table(data, "presence", coords=("X", "Y"))
    assert np.ptp(unnamed.coordinates[:, 0]) == pytest.approx(11_132, rel=0.01)
    assert any("interpreted as metres on the ground" in note for note in unnamed.notes)
    with pytest.raises(ConfigError, match="unknown coordinate system 'EPSG:0'"):
        read_table(data, "presence", coords=("X", "Y"), crs="EPSG:0")


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(frame(), tmp_path / "a.xlsx")
    monkeypatch.setattr("zoo.risk.tables.MAX_XLSX_BYTES", 2000)
    with pytest.raises(DataError, match="MiB unpacked"):
        read_table(path, "presence")


def test_a_formula_without_a_saved_value_is_refused(tmp_path: Path) -> None:
    """Each was read as a missing value."""
    path = write(frame(), tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(path)
    book.worksheets[0]["B5"] = "=B4+1"
    book.save(path)
    with pytest.raises(DataError, match="cell B5 holds a formula without a saved value"):
        read_table(path, "presence")
    # A spreadsheet program stores the result of a formula, even an empty text.
    for saved in (b'<c r="B5" t="str"><f>B4+1</f><v></v></c>', b'<c r="B5"><f>B4+1</f><v>7</v></c>'):
        replace_in_sheet(path, rb'<c r="B5"[^/]*><f>B4\+1</f><v ?/?>(</v>)?</c>', saved)
        assert len(read_table(path, "presence")) == len(frame())
        book.save(path)


def replace_in_sheet(path: Path, pattern: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"], count = re.subn(pattern, new, parts["xl/worksheets/sheet1.xml"])
    assert count == 1
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_sparse_sheet_that_names_its_last_cell_is_refused_at_once(tmp_path: Path) -> None:
    path = write(frame(), tmp_path / "a.xlsx")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    last = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", last)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="empty rows"):
        read_table(path, "presence")


def test_the_first_of_several_sheets_is_read_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    with pd.ExcelWriter(path) as book:
        for name in ("units", "old"):
            frame().to_excel(book, sheet_name=name, index=False)
    assert "only sheet 'units' was read, the first of 2" in read_table(path, "presence", drop=("X", "Y")).notes


def test_an_exponent_beyond_all_numbers_is_refused_and_does_not_crash(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("presence,slope\n" + "".join(f"{n % 2},{n}\n" for n in range(20)) + "1,1e3084000042\n0,3\n")
    with pytest.raises(DataError, match="infinite value in row 21"):
        read_table(path, "presence")


def test_a_field_of_megabytes_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('presence,"' + "x" * 200_000 + '"\n0,1\n1,2\n')
    with pytest.raises(DataError, match="line 1 is not valid CSV"):
        read_table(path, "presence")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path / "d.csv", "presence")


INSERTED = [b",", b"\n", b'"', b"nan", b"1e400", b"1e3084000042", b"\x00", b"\xff", b"inf", b";", b"\t", b"true"]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_tables_are_refused_with_a_clear_message(tmp_path: Path, seed: int) -> None:
    rows = "".join(f"{n % 2},{n * 1.3:.2f},{'ab'[n % 2]},{500_000 + 10 * n},{4_000_000 + 7 * n}\n" for n in range(40))
    good = b"presence,slope,rock,X,Y\n" + rows.encode()
    rng = random.Random(seed)
    path = tmp_path / "t.csv"
    for _ in range(100):
        content = bytearray(good)
        for _ in range(rng.choice([1, 2, 10])):
            at = rng.randrange(len(content))
            if rng.random() < 0.4:
                content[at] = rng.randrange(256)
            elif rng.random() < 0.5:
                del content[at : at + rng.randrange(1, 50)]
            else:
                content[at:at] = rng.choice(INSERTED)
        path.write_bytes(content)
        try:
            table = read_table(path, "presence", coords=("X", "Y"))
        except ZooError:
            continue
        assert len(table) == len(table.features)


def test_longitudes_from_0_to_360_are_degrees() -> None:
    rng = np.random.default_rng(0)
    west = frame().drop(columns=["X", "Y"]).assign(lon=rng.uniform(-80, -79, 40), lat=rng.uniform(-2, -1, 40))
    table = read_table(west.assign(lon=west["lon"] + 360), "presence", coords=("lon", "lat"))
    assert any("from 180 to 360 degrees" in note for note in table.notes)
    np.testing.assert_allclose(
        np.sort(table.coordinates, axis=0),
        np.sort(read_table(west, "presence", coords=("lon", "lat")).coordinates, axis=0),
        atol=1e-6,
    )


@pytest.mark.parametrize("pair", [("lon", "lat"), ("Longitude", "Latitude"), ("POINT_X", "POINT_Y"), ("x", "y"),
                                  ("easting", "northing")])  # fmt: skip
def test_coordinates_among_the_features_are_warned_of(pair: tuple[str, str]) -> None:
    data = frame().rename(columns={"X": pair[0], "Y": pair[1]})
    asked = f"--coords {pair[0]},{pair[1]}"
    assert any(asked in text for text in read_table(data, "presence").warnings)
    assert not any(asked in text for text in read_table(data, "presence", coords=pair).warnings)
    assert not any("--coords" in text for text in read_table(data, "presence", drop=pair).warnings)


def test_columns_that_number_the_rows_are_left_out(tmp_path: Path) -> None:
    data = frame()
    data.to_csv(tmp_path / "index.csv")
    keys = data.assign(OBJECTID=np.random.default_rng(0).permutation(40), fid=[*range(39), 38])
    for table, found in ((tmp_path / "index.csv", "Unnamed: 0"), (keys, "OBJECTID")):
        read = read_table(table, "presence", coords=("X", "Y"))
        assert found not in read.features
        assert f"{found}: left out, because it numbers the rows" in read.notes
    assert "fid" in read.features, "it is in two rows"


@pytest.mark.parametrize("text", ["35%", "35 m", "<0.5", "12°"])
def test_numbers_with_a_unit_are_not_classes(text: str) -> None:
    data = frame().assign(height=[text, "950", text, text] * 10)
    with pytest.raises(DataError, match=r"column 'height': .* is a number with a unit"):
        read_table(data, "presence", coords=("X", "Y"))
    assert "height" in read_table(data, "presence", coords=("X", "Y"), categorical=["height"]).features


@pytest.mark.parametrize("text", ["1,234", "1'234", "1 234", "1.234,5", "1234,5"])
def test_numbers_in_a_local_format_are_not_classes(tmp_path: Path, text: str) -> None:
    path = write(frame().assign(height=[text, *["950"] * 19] * 2), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"column 'height': .* is a number with group separators or a decimal comma"):
        read_table(path, "presence", coords=("X", "Y"))
    assert "height" in read_table(path, "presence", coords=("X", "Y"), categorical=["height"]).features


def test_repeated_rows_are_warned_of() -> None:
    data = frame()
    assert not read_table(data, "presence", coords=("X", "Y")).warnings
    twice = read_table(pd.concat([data, data.head(20)]), "presence", coords=("X", "Y"))
    assert "20 of 60 rows repeat another row" in twice.warnings[0]
    moved = data.head(20).assign(X=data["X"].head(20) + 50)
    assert not read_table(pd.concat([data, moved]), "presence", coords=("X", "Y")).warnings


def test_equal_rows_with_opposite_labels_are_warned_of() -> None:
    data = frame()
    other = data.head(6).assign(presence=1 - data["presence"].head(6))
    both = read_table(pd.concat([data, other]), "presence", coords=("X", "Y")).warnings
    assert "of 46 rows, 12 have the same features and 12 have the same coordinates as a row with the" in both[0]
    moved = read_table(pd.concat([data, other.assign(X=other["X"] + 50)]), "presence", coords=("X", "Y")).warnings
    assert "of 46 rows, 12 have the same features as a row with the opposite label" in moved[0]
    steeper = pd.concat([data.assign(event=1), other.assign(slope=other["slope"] + 1, event=2)])
    placed = read_table(steeper, "presence", coords=("X", "Y"), drop=("event",)).warnings
    assert "of 46 rows, 12 have the same coordinates as a row with the opposite label" in placed[0]
    assert not read_table(steeper, "presence", coords=("X", "Y"), group="event").warnings


def test_one_place_far_from_the_others_is_warned_of_with_its_row() -> None:
    data = frame().assign(X=np.linspace(73, 74, 40), Y=np.linspace(34, 35, 40))
    assert not read_table(data, "presence", coords=("X", "Y")).warnings
    for x, y in ((34.5, 73.5), (-73.5, 34.5)):
        data.loc[3, ["X", "Y"]] = x, y
        data.loc[0, "presence"] = np.nan
        (told,) = read_table(data, "presence", coords=("X", "Y")).warnings
        assert told.startswith("1 places lie far from all others, the first in row 4, ")
    for code in (999.0, -999.0):
        data.loc[3, ["X", "Y"]] = code
        with pytest.raises(DataError, match=f"coordinate '{code}' in row 4 is not a number or marks a missing value"):
            read_table(data, "presence", coords=("X", "Y"))
    metres = frame()
    metres.loc[10:29, ["X", "Y"]] = 73.5, 34.5
    with pytest.raises(
        DataError, match="20 places, the first in row 11, look like degrees, but the others like metres"
    ):
        read_table(metres, "presence", coords=("X", "Y"))


def test_the_label_names_no_groups_and_names_have_no_spaces_around_them() -> None:
    with pytest.raises(ConfigError, match="column 'presence' is the label"):
        read_table(frame(), "presence", group="presence")
    spaced = frame().rename(columns={"presence": " presence ", "slope": "slope "})
    assert list(read_table(spaced, "presence", coords=("X", "Y")).features) == ["slope", "rock"]


def test_coordinates_of_0_0_are_missing_ones(tmp_path: Path) -> None:
    degrees = frame().assign(X=np.linspace(103, 104, 40), Y=np.linspace(31, 32, 40))
    for data in (frame(), degrees):
        data.loc[[3, 9], ["X", "Y"]] = 0.0
        with pytest.raises(DataError, match="2 places, the first in row 4, have the coordinates 0, 0"):
            read_table(data, "presence", coords=("X", "Y"))
    local = frame().assign(X=np.arange(40.0) * 50, Y=np.arange(40.0) * 30)
    assert read_table(local, "presence", coords=("X", "Y")).coordinates is not None
    places = geopandas.points_from_xy(degrees["X"], degrees["Y"], crs="EPSG:4326")
    geopandas.GeoDataFrame(degrees, geometry=places).to_file(tmp_path / "a.gpkg")
    with pytest.raises(DataError, match="2 features lie at 0, 0, which means"):
        read_table(tmp_path / "a.gpkg", "presence")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("presence,slope,rain\n0,1,2\n1,2\n0,3,4\n", "line 3 has 2 fields, and the heading has 3"),
        ("presence;slope;rain\n0;1;2\n1;2;3\n0;1", "line 4 has 2 fields, and the heading has 3"),
        ("presence slope rain\n0 1 2\n1  2\n", "line 3 has 2 fields, and the heading has 3"),
    ],
    ids=["a missing cell", "a truncated file", "spaces"],
)
def test_a_row_with_fewer_cells_than_the_heading_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_table(path, "presence")


def test_rows_without_the_last_separator_of_the_heading_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("presence,slope,\n" + "".join(f"{n % 2},{n}\n  \n\n" for n in range(20)) + ",,\n")
    assert len(read_table(path, "presence").labels) == 20


def test_a_separator_at_the_end_of_each_row_shifts_no_column(tmp_path: Path) -> None:
    data, path = frame()[["slope", "presence", "X", "Y"]], tmp_path / "a.csv"
    header, *rows = data.to_csv(index=False).splitlines()
    path.write_text("\n".join([header, *(f"{row}," for row in rows)]))
    table = read(path, coords=("X", "Y"))
    np.testing.assert_allclose(table.features["slope"], data["slope"])
    np.testing.assert_array_equal(table.labels, data["presence"])
    # R writes the names of the rows without a name of their column.
    path.write_text("\n".join([header, *(f"{number},{row}" for number, row in enumerate(rows, 1))]))
    np.testing.assert_allclose(read(path, coords=("X", "Y")).features["slope"], data["slope"])
