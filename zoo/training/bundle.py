"""A trained model as two files that can be shared: ``model.safetensors`` and ``bundle.json``."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from zoo.datasets.statistics import Statistics
from zoo.errors import ConfigError, DataError, ResultError, ZooError
from zoo.files import atomic_path, write_json_atomic
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.compute import ComputeFormat
from zoo.training.predictor import AS_IT_IS, Predictor, check_scales, weights_alone, with_scales

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A trained model and everything that is needed to use it again.

    Attributes:
        model: registered name of the architecture.
        options: keyword arguments it was made with.
        bands: of the input, in order, with units.
        statistics: of each band over the training split, in the band's unit; the input is normalised with them.
        compute_format: number format and memory layout of training and evaluation.
        class_names: of the logits' channels.
        threshold: landslide probability, chosen on the validation split.
        metrics: of the test split, by name; ``None`` where undefined.
        data: name, options and fingerprints of the splits.
        recipe: how it was trained.
        seed: of the weights, the order of the patches and the augmentation.
        environment: machine and versions.
        weights_sha256: of ``model.safetensors``; empty before saving.
        adaptation: how it was adapted to a region without labels (:mod:`zoo.training.adaptation`); ``None`` if it
            was not.
        scales: magnifications at which every image is seen (:mod:`zoo.training.predictor`).
        state: the weights, by parameter name; and the normalisation statistics of further scales.
    """

    model: str
    options: dict[str, Any]
    bands: tuple[Band, ...]
    statistics: Statistics
    compute_format: ComputeFormat
    class_names: tuple[str, ...]
    threshold: float
    metrics: dict[str, float | None]
    data: dict[str, Any]
    recipe: dict[str, Any]
    seed: int
    environment: dict[str, Any]
    state: dict[str, torch.Tensor] = field(repr=False)
    weights_sha256: str = ""
    adaptation: dict[str, Any] | None = None
    scales: tuple[float, ...] = AS_IT_IS

    def save(self, folder: Path) -> str:
        """Write both files, the description last: a folder without it holds no bundle.

        Returns:
            The sha256 of the weights.

        Raises:
            ZooError: if the folder cannot be written to.
        """
        with atomic_path(folder / WEIGHTS) as temporary:
            try:
                # A clone each: safetensors refuses tensors that share memory, as tied weights do.
                tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state.items()}
                save_file(tensors, temporary)
            except SafetensorError as error:
                raise OSError(str(error)) from error
            digest = sha256_of(temporary)
        description = {
            "format": FORMAT,
            "model": {
                "name": self.model,
                "options": self.options,
                "in_channels": len(self.bands),
                "classes": len(self.class_names),
            },
            "bands": [band.to_dict() for band in self.bands],
            "statistics": self.statistics.to_dict(),
            "compute_format": self.compute_format.to_dict(),
            "class_names": list(self.class_names),
            "threshold": self.threshold,
            "metrics": self.metrics,
            "data": self.data,
            "recipe": self.recipe,
            "seed": self.seed,
            "environment": self.environment,
            "weights": {"file": WEIGHTS, "sha256": digest},
        }
        if self.adaptation is not None:
            description["adaptation"] = self.adaptation
        if self.scales != AS_IT_IS:
            description["scales"] = list(self.scales)
        write_json_atomic(folder / DESCRIPTION, description)
        return digest

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Bundle:
        """Read a bundle and check that its weights are those that were saved.

        Raises:
            ResultError: if a file is missing, cut short, of another format or altered.
        """
        folder = Path(folder)
        description = _read_description(folder)
        weights = folder / WEIGHTS
        try:
            digest = sha256_of(weights)
            expected = description["weights"]["sha256"]
            if digest != expected:
                raise ResultError(
                    "the weights are not those that were saved (sha256 differs)",
                    where=weights,
                    hint="Copy the bundle again or train it again",
                )
            return cls(
                model=description["model"]["name"],
                options=description["model"]["options"],
                bands=tuple(Band.from_dict(band) for band in description["bands"]),
                statistics=Statistics.from_dict(description["statistics"]),
                compute_format=ComputeFormat(**description["compute_format"]),
                class_names=tuple(description["class_names"]),
                threshold=float(description["threshold"]),
                metrics=description["metrics"],
                data=description["data"],
                recipe=description["recipe"],
                seed=description["seed"],
                environment=description["environment"],
                state=load_file(weights),
                weights_sha256=digest,
                adaptation=description.get("adaptation"),
                scales=check_scales(description.get("scales", AS_IT_IS)),
            )
        except FileNotFoundError:
            raise ResultError("the bundle has no weights", where=weights, hint="Copy the whole folder") from None
        except (KeyError, TypeError, ValueError, ConfigError, SafetensorError) as error:
            raise ResultError(
                f"the bundle is damaged ({type(error).__name__}: {error})",
                where=folder,
                hint="Copy the bundle again or train it again",
            ) from error

    def check_bands(self, bands: tuple[Band, ...], where: str) -> None:
        """Refuse data whose bands are not those of the bundle, in name, unit and order.

        Raises:
            DataError: naming the first band that differs.
        """
        expected = [f"{band.name} [{band.unit}]" for band in self.bands]
        found = [f"{band.name} [{band.unit}]" for band in bands]
        if expected == found:
            return
        if len(expected) != len(found):
            problem = f"has {len(found)} bands, and the bundle takes {len(expected)}"
        else:
            place = next(index for index in range(len(found)) if expected[index] != found[index])
            problem = f"band {place + 1} is {found[place]}, and the bundle takes {expected[place]} there"
        raise DataError(problem, where=where, hint="The bundle takes " + ", ".join(expected))

    def at_scale_one(self) -> Bundle:
        """The bundle seeing every image as it is, with the statistics of its first scale."""
        return replace(self, scales=AS_IT_IS, state=weights_alone(self.scales, self.state))

    def predictor(self) -> Predictor:
        """The model with its weights and normalisation, in eval mode on the CPU.

        Raises:
            ZooError: if the architecture is not registered here, or takes other weights.
        """
        model = create_model(self.model, len(self.bands), len(self.class_names), **self.options)
        try:
            model.load_state_dict(weights_alone(self.scales, self.state))
        except RuntimeError as error:
            raise ResultError(
                f"the weights do not fit model {self.model!r} of this version",
                hint=str(error).splitlines()[-1].strip(),
            ) from error
        model = with_scales(model, self.scales, self.state)
        return Predictor(model, self.statistics.mean.tolist(), self.statistics.std.tolist()).eval()


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ResultError(
            f"holds no {DESCRIPTION}", where=folder, hint="A bundle is a folder that zoo train or zoo bench wrote"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultError("is no JSON; was it cut short?", where=path, hint="Copy the bundle again") from error
    except OSError as error:
        raise ZooError(f"cannot be read ({error.strerror})", where=path) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ResultError(
            f"is not of bundle format {FORMAT}", where=path, hint="It was written by another version of landslide-zoo"
        )
    return description


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
