"""The model card of a bundle: ``README.md`` with YAML front matter, as the Hugging Face hub shows it.

The card is generated from ``bundle.json``. :func:`check_card` rejects a card that describes another bundle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__
from zoo.errors import ResultError, first_line
from zoo.evaluation.quality import Calibration, MeasuredSplit, quality_warnings
from zoo.files import printable, write_text_atomic
from zoo.physics.display import DISPLAY, SATURATION
from zoo.schema import from_plain
from zoo.training.bundle_layout import CARD, CARD_PICTURES, read_header

if TYPE_CHECKING:
    from jinja2 import Template

    from zoo.training.bundle import Bundle

RELIABILITY, WORST, TYPICAL = "reliability.png", "worst.png", "typical.png"
PICTURES = {
    RELIABILITY: "predicted and observed landslide frequency",
    WORST: "the patches with the most wrong pixels",
    TYPICAL: "patches with a Dice near the median",
}
"""Pictures of a card, with their captions."""

HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "bsd-3-clause": "bsd-3-clause",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc0-1.0": "cc0-1.0",
    "mit": "mit",
}
"""Licences with an identifier on the hub; all other licences are ``other`` there [S: hub documentation]."""

METRICS = ("dice", "iou", "precision", "recall")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_MAX_CARD_BYTES, _MAX_FRONT_MATTER_BYTES = 4 * 2**20, 2**16
_HINT = "Write it again with zoo card, or delete it"


def render_card(bundle: Bundle, *, pictures: Sequence[str] = ()) -> str:
    """Return the model card of a bundle in Markdown.

    Args:
        bundle: a trained model.
        pictures: names of the pictures in the folder ``card`` next to the card; see :data:`PICTURES`.
    """
    import yaml

    quality = bundle.quality()
    whole = [evaluation for evaluation in bundle.evaluations if evaluation.group is None]
    return printable_text(
        _template().render(
            front_matter=yaml.safe_dump(_front_matter(bundle), sort_keys=False, allow_unicode=True, width=110),
            bundle=bundle,
            notes=bundle.notes,
            title=bundle.notes.name or bundle.model,
            source=bundle.notes.name or "BUNDLE",
            bands=list(zip(bundle.bands, bundle.statistics.bands, strict=True)),
            displayed=", ".join(band.name for band in bundle.input_bands if band.unit == DISPLAY),
            saturation=SATURATION["2A"],
            quality=quality,
            warnings=quality_warnings(quality),
            evaluations=_rows(bundle),
            units=sorted({evaluation.interval_unit for evaluation in bundle.evaluations if evaluation.interval_unit}),
            calibration=_calibration(whole),
            pictures=[(name, PICTURES[name]) for name in (WORST, TYPICAL) if name in pictures],
            reliability=RELIABILITY if RELIABILITY in pictures else "",
            folder=CARD_PICTURES,
            data=_data_name(bundle),
            environment=[f"{name} {version}" for name, version in sorted(bundle.environment.versions.items())],
            adaptation=bundle.adaptation,
            version=__version__,
        )
    )


def write_card(bundle: Bundle, folder: Path) -> Path:
    """Write the model card of a bundle into its folder, with the pictures in its subfolder ``card``.

    Raises:
        ZooError: if the file cannot be written.
    """
    present = [name for name in PICTURES if (folder / CARD_PICTURES / name).is_file()]
    write_text_atomic(folder / CARD, render_card(bundle, pictures=present))
    return folder / CARD


def check_card(folder: Path) -> None:
    """Check that the model card in a folder describes its bundle. A missing card or another README is not an error.

    Raises:
        ResultError: if the card names other bands, another pixel size or other weights than ``bundle.json``, or its
            front matter cannot be read.
    """
    path = folder / CARD
    if not path.is_file():
        return
    stated = _card_statements(path)
    if stated is None:
        return
    header = read_header(folder)
    bands = ", ".join(f"{band.name} [{band.unit}]" for band in header.bands)
    pairs = [
        ("the bands", None if stated.bands is None else ", ".join(stated.bands), bands),
        ("a pixel size of", _format_number(stated.pixel_size), _format_number(header.pixel_size)),
        ("weights with the sha256", stated.weights_sha256, header.weights.sha256),
    ]
    for what, card, bundle in pairs:
        if card is not None and card != bundle:
            problem = f"the model card names {what} {card}, but bundle.json {bundle or 'none'}"
            raise ResultError(problem, where=path, hint=_HINT)


@dataclass(frozen=True)
class _CardStatements:
    """Statements of a card about its bundle; typed, because repeated YAML aliases can expand until memory is full."""

    bands: tuple[str, ...] | None = None
    pixel_size: float | None = None
    weights_sha256: str | None = None


def _card_statements(path: Path) -> _CardStatements | None:
    """Return what the front matter of a card states about the bundle; ``None`` if it states nothing."""
    import yaml

    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ResultError("is too large for a model card", where=path, hint=_HINT)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"the model card cannot be read ({error})", where=path, hint=_HINT) from error
    found = _FRONT_MATTER.match(text)
    if found is None:
        return None
    if len(found[1]) > _MAX_FRONT_MATTER_BYTES:
        raise ResultError("its front matter is too large for a model card", where=path, hint=_HINT)
    try:
        values = yaml.safe_load(found[1])
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = f"the front matter of the model card is not YAML ({first_line(error)})"
        raise ResultError(problem, where=path, hint=_HINT) from error
    stated = values.get("landslide_zoo") if isinstance(values, dict) else None
    return None if stated is None else from_plain(stated, _CardStatements, what="model card", where=path, hint=_HINT)


def _format_number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _front_matter(bundle: Bundle) -> dict[str, Any]:
    """Return the metadata that the hub reads, and ours under ``landslide_zoo``."""
    stated = bundle.notes.licence or bundle.data.licence
    known = HUB_LICENCES.get(stated.strip().lower().replace(" ", "-"), "other")
    data = _data_name(bundle)
    tags = ["landslide", "image-segmentation", "remote-sensing", bundle.model, bundle.label]
    values: dict[str, Any] = {
        "license": known,
        **({"license_name": stated or "unknown"} if known == "other" else {}),
        "library_name": "landslide-zoo",
        "pipeline_tag": "image-segmentation",
        "tags": [tag for tag in tags if tag],
        "datasets": [data] if data else [],
        "metrics": list(METRICS),
        "model-index": _model_index(bundle),
        "landslide_zoo": {
            "bands": [f"{band.name} [{band.unit}]" for band in bundle.bands],
            "pixel_size": bundle.pixel_size,
            "weights_sha256": bundle.weights_sha256 or None,
        },
    }
    return {name: value for name, value in values.items() if value}


def _model_index(bundle: Bundle) -> list[dict[str, Any]]:
    results = []
    for evaluation in bundle.evaluations:
        figures = [(name, getattr(evaluation, name)) for name in METRICS]
        results.append(
            {
                "task": {"type": "image-segmentation"},
                "dataset": {"name": evaluation.place, "type": evaluation.data or "unknown", "split": evaluation.split},
                "metrics": [{"type": name, "value": round(value, 4)} for name, value in figures if value is not None],
            }
        )
    known = [result for result in results if result["metrics"]]
    return [{"name": bundle.notes.name or bundle.model, "results": known}] if known else []


def _rows(bundle: Bundle) -> list[MeasuredSplit]:
    """Return the records for the table of a card; for an older bundle, its test figures."""
    quality = bundle.quality()
    return list(bundle.evaluations) or ([] if quality is None else [quality])


def _calibration(whole: Sequence[MeasuredSplit]) -> tuple[MeasuredSplit, Calibration] | None:
    """Return the first record with a calibration."""
    return next(
        ((evaluation, evaluation.calibration) for evaluation in whole if evaluation.calibration is not None), None
    )


def _data_name(bundle: Bundle) -> str:
    source = bundle.data.source
    return bundle.data.name if source is None else source.label


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, finalize=_cell, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": _figure, "share": _percent, "cell": _cell_text}
    return environment.from_string(files("zoo.weights").joinpath("card.md.j2").read_text(encoding="utf-8"))


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _cell_text(value: object) -> str:
    """Return a value as text for a table cell, in which a vertical bar or a line break would break the row."""
    return " ".join(str(value).split()).replace("|", "\\|") or "-"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def printable_text(text: str) -> str:
    """Return a text without control characters; line breaks are kept."""
    return "\n".join(printable(line) for line in text.splitlines()) + "\n"
