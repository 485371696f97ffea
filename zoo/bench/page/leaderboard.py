"""The leaderboard of a setting as a table that sorts and filters, and the paper's figures beside ours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.bench.leaderboard import PAPER_NOTE, Row, describe_draws
from zoo.bench.page.data import Setting
from zoo.bench.page.markup import Child, Element, breakable, captioned, scrolling, table, tag
from zoo.bench.paper import paper_table
from zoo.evaluation.comparison import format_p


@dataclass(frozen=True)
class Column:
    """A figure of the leaderboard.

    Attributes:
        figure: its key in a row.
        heading: of the column.
        pattern: how it is written.
        meaning: what it is, and how it is averaged.
        extra: left out on paper.
        scale: that values are divided by.
        rising: whether lower values are better, so that the first sort is upward.
    """

    figure: str
    heading: str
    pattern: str
    meaning: str
    extra: bool = False
    scale: float = 1.0
    rising: bool = False


_POOLED = "from the counts of all test pixels together, at the threshold that validation chose; mean over seeds"
COLUMNS = (
    Column("dice", "Dice", "{:.3f}", f"2TP / (2TP + FP + FN), eq. 19 of the paper, {_POOLED}. The headline."),
    Column(
        "dice_per_image",
        "Dice/image",
        "{:.3f}",
        "mean Dice of the test images; those without a landslide, where it is undefined, left out; mean over seeds.",
    ),
    Column(
        "dice_per_event",
        "Dice/event",
        "{:.3f}",
        "mean of each event's or scene's pooled Dice, those without a landslide left out; mean over seeds.",
        extra=True,
    ),
    Column("iou", "IoU", "{:.3f}", f"TP / (TP + FP + FN), {_POOLED}.", extra=True),
    Column("mcc", "MCC", "{:.3f}", f"Matthews correlation coefficient, {_POOLED}.", extra=True),
    Column("precision", "Precision", "{:.3f}", f"TP / (TP + FP), {_POOLED}."),
    Column("recall", "Recall", "{:.3f}", f"TP / (TP + FN), {_POOLED}."),
    Column(
        "accuracy",
        "Accuracy",
        "{:.3f}",
        f"(TP + TN) / all, {_POOLED}. Printed because the paper prints it: with few landslide pixels it says little.",
        extra=True,
    ),
    Column(
        "pr_auc",
        "PR-AUC",
        "{:.3f}",
        "area under precision and recall over 200 thresholds, no interpolation; mean over seeds.",
        extra=True,
    ),
    Column(
        "detection",
        "Found",
        "{:.3f}",
        "share of the test split's landslides (groups of touching pixels) with at"
        " least half of their pixels predicted; mean over seeds.",
    ),
    Column(
        "false_alarms_per_km2",
        "False alarms/km²",
        "{:.2f}",
        "predicted groups of pixels without any landslide pixel, over the area of all test images; mean over seeds.",
        extra=True,
        rising=True,
    ),
    Column(
        "false_positives_per_km2",
        "False pixels/km²",
        "{:.1f}",
        "falsely predicted pixels over the area of the test images without a landslide; mean over seeds.",
        extra=True,
        rising=True,
    ),
    Column(
        "boundary_f1_2px",
        "Boundary F1",
        "{:.3f}",
        "outlines that agree within two pixels, all images together; mean over seeds.",
        extra=True,
    ),
    Column(
        "ece",
        "ECE",
        "{:.4f}",
        "expected calibration error of the probabilities, 15 bins, all test pixels; mean over seeds.",
        extra=True,
        rising=True,
    ),
    Column(
        "ece_scaled",
        "ECE scaled",
        "{:.4f}",
        "the same with a temperature fitted on validation.",
        extra=True,
        rising=True,
    ),
    Column("loss", "Loss", "{:.3f}", "cross-entropy a test pixel; mean over seeds.", rising=True),
    Column("parameters", "Parameters (M)", "{:.2f}", "that training changes, in millions.", scale=1e6, rising=True),
    Column(
        "gmac",
        "GMAC",
        "{:.2f}",
        "multiply-accumulates of one test patch, convolutions and matrix products, in 10⁹.",
        rising=True,
    ),
    Column(
        "fps",
        "FPS, batch 1",
        "{:.1f}",
        "patches a second, one at a time: model alone, eager, float32, from the median time of a pass.",
    ),
    Column("fps_batch", "FPS, best", "{:.1f}", "patches a second at the fastest batch size.", extra=True),
)
UNDEFINED = "–"


def leaderboard(setting: Setting) -> list[Element]:
    """Filter, table, what its letters mean, and what failed."""
    identity = f"setting-{setting.number}-leaderboard"
    columns = [one for one in COLUMNS if any(row.figures.get(one.figure) is not None for row in setting.rows)]
    baseline = next((row.difference.baseline for row in setting.rows if row.difference is not None), None)
    field = tag("input", type="search", id=f"{identity}-filter", autocomplete="off", aria_controls=identity)
    told = tag("span", f"{len(setting.rows)} models", class_="count", role="status")
    label = tag("label", "Only models whose name or status has ", for_=f"{identity}-filter")
    parts = [
        tag("p", label, field, " ", told, class_="filter"),
        scrolling(_table(setting, identity, columns, baseline), f"Leaderboard: {setting.heading}"),
        tag("p", describe_draws(setting.results), class_="note"),
    ]
    if any(one.extra for one in columns):
        parts.append(tag("p", "On the screen the table has more columns.", class_="note paper-only"))
    failed = [row for row in setting.rows if row.error]
    if failed:
        reasons = [tag("li", tag("b", row.model), f": {row.status}: {row.error}") for row in failed]
        parts.append(tag("div", tag("p", "What has no figures, or not for every seed:"), tag("ul", *reasons)))
    parts += [tag("p", f"Caution: {doubt}.", class_="doubt") for doubt in setting.doubts]
    return parts


def beside_the_paper(setting: Setting) -> Element | None:
    """Our figures beside those of the paper's table; None where no row has any."""
    if not any(row.paper for row in setting.rows):
        return None
    name = paper_table(setting.results[0].config)
    cells: list[list[Child]] = []
    for row in setting.rows:
        if row.paper is None:
            continue
        parameters = row.figures.get("parameters")
        pairs = (
            (row.figures.get("dice"), row.paper.dice, "{:.3f}"),
            (row.figures.get("precision"), row.paper.precision, "{:.2f}"),
            (row.figures.get("recall"), row.paper.recall, "{:.2f}"),
            (row.figures.get("accuracy"), row.paper.accuracy, "{:.3f}"),
            (row.figures.get("loss"), row.paper.loss, "{:.3f}"),
            (None if parameters is None else parameters / 1e6, row.paper.parameters_m, "{:.0f}"),
            (row.figures.get("fps"), row.paper.fps, "{:.1f}"),
        )
        shown = [_written(value, pattern) for ours, theirs, pattern in pairs for value in (ours, theirs)]
        cells.append([row.model, row.paper.label, *shown])
    figures = ("Dice", "Precision", "Recall", "Accuracy", "Loss", "Parameters (M)", "FPS")
    headings = ["model", "the paper's name", *(f"{one}, {who}" for one in figures for who in ("here", "paper"))]
    return tag(
        "div",
        tag("h3", f"{name} of the paper beside ours"),
        table(
            f"{name} of Zheng et al. 2025 beside the figures of this folder", headings, cells, class_="figures paper"
        ),
        tag("p", PAPER_NOTE.format(name) + " Loss: the paper does not name the function.", class_="note"),
    )


def meanings() -> Element:
    """What every figure means, and how it is averaged."""
    terms: list[Element] = []
    for column in COLUMNS:
        terms += [tag("dt", column.heading), tag("dd", column.meaning)]
    terms += [
        tag("dt", "Like"),
        tag(
            "dd",
            "models that share a letter cannot be told apart in Dice: the p-value of their paired difference is 0.05 "
            "or more, corrected for all pairs of the table (Romano-Wolf).",
        ),
        tag("dt", "Difference"),
        tag(
            "dd",
            "pooled Dice minus that of the baseline, paired over the same draws of test images and seeds, with "
            "its 95 % interval and the two-sided p-value, corrected for all rows (Romano-Wolf).",
        ),
        tag("dt", "[ ]"),
        tag(
            "dd",
            "95 % percentile intervals of 2,000 bootstrap replicates over tiles (over events where there are eight "
            "or more), and over seeds where there are several. They hold what another test set of the same kind "
            "and other seeds would change, not what another region or other data would.",
        ),
    ]
    return tag("dl", *terms)


def _table(setting: Setting, identity: str, columns: list[Column], baseline: str | None) -> Element:
    head = tag("tr", _sortable("Model", "text"))
    body = tag("tbody")
    for column in columns:
        class_ = "extra" if column.extra else None
        sorted_now = "descending" if column.figure == "dice" else None
        head.append(_sortable(column.heading, "up" if column.rising else "down", column.meaning, class_, sorted_now))
        if column.figure == "dice":
            head.append(_sortable("Like", "text", "models that share a letter cannot be told apart"))
            if baseline is not None:
                head.append(_sortable(f"Difference from {baseline}", "down", "pooled Dice, paired"))
    head.append(_sortable("Seeds", "down", "trials with figures"))
    head.append(_sortable("Status", "text"))
    for row in setting.rows:
        cells = tag(
            "tr", tag("th", *breakable(row.model), scope="row"), class_=None if row.status == "ok" else "not-ok"
        )
        for column in columns:
            cells.append(_cell(row, column))
            if column.figure == "dice":
                cells.append(tag("td", row.group or UNDEFINED, class_="text"))
                if baseline is not None:
                    cells.append(_difference(row, baseline))
        cells.append(tag("td", str(row.seeds), data_value=row.seeds))
        cells.append(tag("td", row.status, class_="text"))
        body.append(cells)
    caption = captioned(f"{setting.description}. Headings sort.")
    return tag("table", caption, tag("thead", head), body, id=identity, class_="leaderboard figures")


def _sortable(
    heading: str, kind: str, title: str | None = None, class_: str | None = None, now: str | None = None
) -> Element:
    button = tag("button", heading, type="button", data_sort=kind, title=title)
    return tag("th", button, scope="col", class_=class_, aria_sort=now)


def _cell(row: Row, column: Column) -> Element:
    value = row.figures.get(column.figure)
    low, high = row.intervals.get(column.figure, (math.nan, math.nan))
    shown: Child = None
    if value is not None and not math.isnan(low):
        shown = tag("small", f"[{low:.3f} {high:.3f}]")
    return tag(
        "td",
        _written(None if value is None else value / column.scale, column.pattern),
        shown,
        data_value=value,
        class_="extra" if column.extra else None,
    )


def _difference(row: Row, baseline: str) -> Element:
    found = row.difference
    if found is None:
        return tag(
            "td", "baseline" if row.model == baseline else UNDEFINED, data_value=0 if row.model == baseline else None
        )
    p = "" if math.isnan(found.p) else f", p {format_p(found.p)}"
    small = None if math.isnan(found.low) else tag("small", f"[{found.low:+.3f} {found.high:+.3f}]{p}")
    return tag("td", f"{found.mean:+.3f}", small, data_value=found.mean)


def _written(value: float | None, pattern: str) -> str:
    return UNDEFINED if value is None else pattern.format(value)
