"""Panels of image, truth and each model's prediction, as in Figure 9 of the paper."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray

from zoo.bench.page.data import Setting
from zoo.bench.page.markup import Child, Element, breakable, captioned, scrolling, tag
from zoo.bench.samples import Pictures
from zoo.errors import ResultError

CORRECT, FALSE, MISSED, IGNORED = (244, 244, 244), (92, 184, 255), (255, 160, 60), (110, 116, 122)
GROUND = (27, 31, 36)
PALETTE = (GROUND, CORRECT, FALSE, MISSED, IGNORED)


def panels(setting: Setting) -> Element:
    """Six test patches: image, truth, and what the first seed of every model predicts."""
    pictures = setting.pictures
    if pictures is None or not pictures.indices:
        why = (
            "This folder holds no pictures of these test patches: its results were written before there were any, or "
            "the folder pictures/ was left behind."
        )
        return tag("p", why, class_="absent")
    predicted = {label: _predictions(setting, label, pictures) for label in setting.trials}
    shown = {label: masks for label, masks in predicted.items() if masks is not None}
    left_out = [label for label in predicted if label not in shown]
    seeds = sorted({setting.trials[label][0].config.seed for label in shown})
    body = tag("tbody")
    for place, name in enumerate(pictures.names):
        truth, ignored = pictures.truth(place), pictures.ignored_pixels(place)
        pixels = int(truth.sum())
        image = base64.b64encode(pictures.images[place]).decode("ascii")
        described = f"{name}: {', '.join(pictures.bands)}"
        cells: list[Child] = [
            tag("th", *breakable(name), tag("small", f"{pixels:,} landslide px"), scope="row"),
            tag("td", _image(f"data:image/jpeg;base64,{image}", described, pictures)),
            tag("td", _image(_mask(truth, truth, ignored), f"{name}: truth, {pixels:,} landslide pixels", pictures)),
        ]
        for label, masks in shown.items():
            cells.append(tag("td", *_prediction(label, name, masks[place], truth, ignored, pictures)))
        body.append(tag("tr", *cells))
    headings = ("patch", "image", "truth", *shown)
    head = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    caption = captioned(f"Six test patches: image, truth and predictions of seed {', '.join(map(str, seeds))}")
    note = (
        "One patch without a landslide, where there is one, and quantiles of landslide area over those with one: "
        "chosen by the truth alone, the same for all models. Image: "
        f"{', '.join(pictures.bands)}, each stretched between its 2nd and 98th percentile."
    )
    without = f" Without predictions in their files: {', '.join(left_out)}." if left_out else ""
    return tag(
        "div",
        _key(),
        scrolling(tag("table", caption, head, body, class_="panels"), "Panels of test patches"),
        tag("p", note + without, class_="note"),
    )


def _predictions(setting: Setting, label: str, pictures: Pictures) -> list[NDArray[np.bool_]] | None:
    """Of the first seed; None where the file has none, or of other patches."""
    samples = setting.trials[label][0].samples
    if samples is None or samples.indices != pictures.indices:
        return None
    try:
        return [samples.mask(place, pictures.shape) for place in range(len(samples.indices))]
    except ResultError:
        return None


def _prediction(
    label: str,
    name: str,
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    pictures: Pictures,
) -> tuple[Element, Element]:
    hit, false = int((predicted & truth).sum()), int((predicted & ~truth & ~ignored).sum())
    pixels = int(truth.sum())
    union = pixels + hit + false
    score = 2 * hit / union if union else math.nan
    told = f"Dice {score:.3f}" if pixels else (f"{false:,} px false" if false else "nothing, rightly")
    words = f"{label} on {name}: {hit:,} of {pixels:,} landslide pixels found, {false:,} false"
    return _image(_mask(predicted, truth, ignored), words, pictures), tag("small", told)


def _mask(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> str:
    """Found, false and missed pixels as a PNG; missed ones are a checkerboard, so that colour is not all that tells."""
    from PIL import Image

    height, width = truth.shape
    cell = max(1, min(height, width) // 64)
    row, column = np.indices((height, width)) // cell
    checkered = (row + column) % 2 == 0
    classes = np.zeros((height, width), np.uint8)
    classes[truth & predicted] = 1
    classes[predicted & ~truth] = 2
    classes[truth & ~predicted & checkered] = 3
    classes[ignored] = 4
    image = Image.fromarray(classes, "P")
    image.putpalette([channel for colour in PALETTE for channel in colour])
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _image(source: str, words: str, pictures: Pictures) -> Element:
    height, width = pictures.shape
    return tag("img", src=source, alt=words, width=width, height=height)


def _key() -> Element:
    names = (
        ("found", "landslide, and predicted"),
        ("false", "predicted, and no landslide"),
        ("missed", "landslide, and not predicted (checkered)"),
        ("ignored", "no truth"),
    )
    keys = (tag("li", tag("span", class_=f"block {kind}", aria_hidden="true"), words) for kind, words in names)
    return tag("ul", *keys, class_="legend")
