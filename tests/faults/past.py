"""Inputs on which zoo once crashed, hung, or gave a wrong value silently.

They are written here instead of being stored, because most are a few bytes in a file of known layout. The name of
each begins with the expected outcome: ``used-`` or ``refused-``. The right values of those that are used are
checked where their reader is tested.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

DEEP = "[" * 100_000
DIGITS = "9" * 5_000
NORTH_UP = from_origin(600_000, 3_800_000, 10, 10)


class RunsCode:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, ("raise SystemExit('code of a pickle was run')",)


def write_tiff(path: Path, values: np.ndarray, **given: Any) -> None:
    bands = values[None] if values.ndim == 2 else values
    scales, colours = given.pop("scales", None), given.pop("colorinterp", None)
    size = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", **size, **{"crs": "EPSG:32643", "transform": NORTH_UP, **given}
    ) as file:
        file.write(bands)
        if scales is not None:
            file.scales = scales
        if colours is not None:
            file.colorinterp = colours


def copy(case: Path, name: str, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    """Copy a case that is a folder, and replace the bytes of some files, given by patterns."""
    target = case.with_name(name)
    shutil.copytree(case, target)
    for pattern, change in changes.items():
        for path in sorted(target.glob(pattern)):
            path.write_bytes(change(path.read_bytes()))


def with_field(place: str, value: object) -> Callable[[bytes], bytes]:
    """Replace a field of a JSON file; the names of a place are joined by dots."""

    def change(content: bytes) -> bytes:
        values = json.loads(content)
        *outer, last = place.split(".")
        inner = values
        for name in outer:
            inner = inner[name]
        inner[last] = value
        return json.dumps(values).encode()

    return change


def _json(corpus: Path) -> None:
    trial, bundle = corpus / "result" / "run", corpus / "bundle" / "run"
    for case, file in ((trial, "trials/*.json"), (bundle, "bundle.json")):
        copy(case, "refused-nested", {file: lambda _: DEEP.encode()})
        # A field that is unknown may come from a newer version, and is ignored.
        copy(case, "used-digits", {file: lambda content: content.replace(b"{", f'{{"x": {DIGITS}, '.encode(), 1)})
    copy(trial, "refused-speed", {"trials/*.json": with_field("speed", [5])})
    copy(trial, "refused-data", {"trials/*.json": with_field("config.data", {})})
    for number, threshold in enumerate((2, -1, 1e308, "nan")):
        copy(bundle, f"refused-threshold-{number}", {"bundle.json": with_field("threshold", threshold)})
    copy(bundle, "refused-options", {"bundle.json": with_field("model.options", {"encoder_weights": "imagenet"})})
    copy(bundle, "refused-cut", {"model.safetensors": lambda content: content[:-1]})
    copy(bundle, "refused-header", {"model.safetensors": lambda content: b"\xff" * 8 + content[8:]})
    weights = corpus / "weights" / "a.json"
    for name, text in {"nested": DEEP, "digits": f'{{"weights": {DIGITS}}}', "list": "[1]"}.items():
        weights.with_name(f"refused-{name}.json").write_text(text)
    weights.with_name("refused-nan.json").write_text(re.sub(r": 0\.\d+", ": 1e999", weights.read_text(), count=1))


def _toml(corpus: Path) -> None:
    plain = (corpus / "benchmark" / "a.toml").read_text()
    for name, text in {
        "nested": f"a = {DEEP}",
        "digits": f"seeds = {DIGITS}\n{plain}",
        "type": plain.replace('recipe = "quick"', "recipe = 5"),
        "name": plain.replace('"unet"', f'"{DIGITS}"'),
        "seeds": f"seeds = 1000000000\n{plain}",
        "levels": f"seeds = {'[' * 50}1{']' * 50}\n{plain}",
    }.items():
        (corpus / "benchmark" / f"refused-{name}.toml").write_text(text)
    notes = corpus / "notes" / "run"
    for name, text in {"nested": f"tried = {DEEP}", "digits": f"tried = {DIGITS}", "latin": "tried = '\xe9'"}.items():
        copy(notes, f"refused-{name}", {"notes.toml": lambda _, text=text: text.encode("latin-1")})


def _tables(corpus: Path) -> None:
    table = corpus / "table"
    head = "presence,x,y,slope\n"
    rows = [f"{number % 2},{75 + number / 100},{34 + number / 90},{number}.5" for number in range(30)]
    body = "\n".join(rows)
    (table / "refused-field.csv").write_text(head + body + "\n1,75,34," + "9" * 200_000)
    (table / "refused-columns.csv").write_text("presence,x,y,x\n" + body)
    (table / "refused-exponent.csv").write_text(head + body + "\n1,75,34,1e999")
    (table / "used-latin.csv").write_bytes((head.replace("slope", "höhe") + body).encode("latin-1"))
    tabs = head.replace(",", "\t") + "\n".join(row.replace(",", "\t").replace(".", ",") for row in rows)
    (table / "used-tabs.csv").write_text(tabs)
    (table / "refused-folder.xlsx").write_bytes(b"PK\x03\x04" + bytes(60))
    frame = pd.DataFrame({"presence": [0, 1] * 15, "x": 75.0, "y": 34.0, "slope": range(30)})
    frame.to_excel(table / "used-places.xlsx", index=False)


def _pictures(corpus: Path) -> None:
    patch, raster = corpus / "patch", corpus / "raster"
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    numbers = np.stack([values, values])
    write_tiff(raster / "used-scales.tif", numbers, scales=(1e-4, 1e-4))
    write_tiff(raster / "used-south-up.tif", values, transform=Affine(10, 0, 600_000, 0, 10, 3_799_920))
    write_tiff(raster / "used-missing-code.tif", np.where(values < 9, -9999, values.astype(np.int16)))
    alpha = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
    shown = {"colorinterp": alpha, "alpha": "UNSPECIFIED", "photometric": "MINISBLACK"}
    write_tiff(raster / "used-alpha.tif", np.stack([*numbers, values]), **shown)
    write_tiff(raster / "refused-rotated.tif", values, transform=NORTH_UP * Affine.rotation(10))
    write_tiff(raster / "refused-transposed.tif", values, transform=Affine(0, 10, 6e5, -10, 0, 3.8e6))
    write_tiff(raster / "refused-bands.tif", np.zeros((1, 16, 16), np.uint8))
    content = bytearray((raster / "refused-bands.tif").read_bytes())
    samples = content.find(struct.pack("<HHI", 277, 3, 1))
    content[samples + 8 : samples + 10] = struct.pack("<H", 65_535)
    (raster / "refused-bands.tif").write_bytes(content)
    pages = [Image.fromarray(values.astype(np.uint8))] * 2
    pages[0].save(raster / "refused-pages.tif", save_all=True, append_images=pages[1:])
    (raster / "refused-nan.asc").write_text("ncols 2\nnrows 1\nxllcorner nan\nyllcorner 0\ncellsize 1\n1 2\n")
    band = '<VRTRasterBand dataType="Byte" band="1"{}<SourceFilename>{}</SourceFilename>{}</VRTRasterBand>'
    whole = f'<VRTDataset rasterXSize="4" rasterYSize="4">{band}</VRTDataset>'
    read_bytes = whole.format(' subClass="VRTRawRasterBand">', "/etc/passwd", "")
    address = whole.format("><SimpleSource>", "/vsicurl/http://127.0.0.1:9/x.tif", "</SimpleSource>")
    (raster / "refused-raw.vrt").write_text(read_bytes)
    (raster / "refused-address.vrt").write_text(address)
    for folder in (patch, raster):
        (folder / "refused-vrt.tif").write_text(read_bytes)
    for name in ("used-scales.tif", "used-missing-code.tif", "refused-bands.tif", "refused-pages.tif"):
        shutil.copy(raster / name, patch / name)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    for name, text in {"nested": b"(" * 9000, "bomb": header % (b"9" * 19), "digits": header % DIGITS.encode()}.items():
        (patch / f"refused-{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    np.save(patch / "refused-objects.npy", np.array([RunsCode()], dtype=object))
    (patch / "refused-empty.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    Image.fromarray(values.astype(np.uint8)).save(patch / "refused-other.png", format="BMP")


def _vectors(corpus: Path) -> None:
    vectors = corpus / "vectors"
    plain = (vectors / "a.geojson").read_text()
    shape = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [-1e308, 1e308], [0, 0]]]}
    huge = {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": shape}]}
    (vectors / "refused-huge.geojson").write_text(json.dumps(huge))
    vertex = re.sub(
        r"\[ [0-9.]+, [0-9.]+ \]", "[ null, null ]", plain.replace("[ [ [ ", "[ [ [ 0, 0 ], [ ", 1), count=1
    )
    (vectors / "used-vertex.geojson").write_text(vertex)
    (vectors / "refused-nested.geojson").write_text(plain.replace('"coordinates":', '"coordinates":' + DEEP, 1))
    (vectors / "refused-vrt.geojson").write_text("<OGRVRTDataSource><OGRVRTLayer name='a'/></OGRVRTDataSource>")
    with zipfile.ZipFile(vectors / "used-folder.zip", "w") as archive:
        archive.writestr("a folder/slides.geojson", plain)


def _containers(corpus: Path) -> None:
    archive = corpus / "archive"
    with zipfile.ZipFile(archive / "refused-outside.zip", "w") as file:
        file.writestr("../../outside.txt", "x")
    with zipfile.ZipFile(archive / "refused-bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(12_000_000))
    with tarfile.open(archive / "refused-link.tar", "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    (corpus / "resume" / "refused-code.ckpt").write_bytes(pickle.dumps(RunsCode()))
    journal = corpus / "journal"
    [block] = journal.glob("block-*")
    (journal / "used-other-place").mkdir()
    shutil.copy(block, journal / "used-other-place" / "block-00001-00001.safetensors")
    weights = corpus / "archived weights"
    for name, member in {"pickle": "model.bin", "outside": "../bundle.json"}.items():
        with zipfile.ZipFile(weights / f"refused-{name}.zip", "w") as file:
            file.writestr(member, pickle.dumps(RunsCode()))


def _descriptions(corpus: Path) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>'
    [safe] = [case for case in (corpus / "safe").iterdir() if case.is_dir()]
    copy(safe, f"refused-{safe.name}", {"MTD_*.xml": lambda _: bomb})
    catalogue = corpus / "stac" / "catalogue"
    copy(catalogue, "refused-type", {"catalog.json": with_field("type", "Thing")})
    copy(catalogue, "refused-nested", {"catalog.json": lambda _: DEEP.encode()})
    copy(catalogue, "refused-digits", {"item.json": lambda text: text.replace(b"3.5", DIGITS.encode())})
    plugin = corpus / "plugin" / "site"
    copy(plugin, "used-points", {"*/entry_points.txt": lambda _: b"main = x\n[[zoo\n=\n"})
    copy(plugin, "used-no-metadata", {"*/METADATA": lambda _: b""})
    card = corpus / "card" / "run"
    copy(card, "refused-bands", {"README.md": lambda text: text.replace(b"NDVI", b"EVI").replace(b"band_1", b"blue")})
    copy(card, "refused-nested", {"README.md": lambda _: f"---\nlandslide_zoo: {DEEP}\n---\n".encode()})
    copy(card, "refused-digits", {"README.md": lambda _: f"---\nlandslide_zoo: {DIGITS}\n---\n".encode()})
    hub = corpus / "hub" / "a.json"
    for name, change in {
        "size": ("120", '"x"'),
        "name": ('"bundle.json"', "5"),
        "pickle": (".safetensors", ".bin"),
    }.items():
        (hub.parent / f"refused-{name}.json").write_text(hub.read_text().replace(*change))


def write_past_faults(corpus: Path) -> None:
    """Add the inputs to the corpus of each reader, which holds a whole file of each kind."""
    for write in (_json, _toml, _tables, _pictures, _vectors, _containers, _descriptions):
        write(corpus)
