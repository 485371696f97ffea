"""Families of models: one architecture with one free choice, such as the encoder.

A plugin registers a family like a model. The thousands of models of a family are names in a table that is read on first
use; the spec of a model is created only when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, ClassVar

from zoo.errors import PluginError, one_line
from zoo.registry.options import matches_type
from zoo.registry.specs import ModelSpec, Spec


@dataclass(frozen=True, kw_only=True)
class ModelVariantSpec(ModelSpec):
    """One model of a family.

    Attributes:
        variant: the choice, such as ``resnet34``. The target gets it as the argument ``variant``.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*ModelSpec.FIXED, "variant")

    variant: str

    def resolve(self, target: str | None = None) -> Callable[..., Any]:
        """Return the target with the variant filled in; see :meth:`Spec.resolve`."""
        found = super().resolve(target)
        return partial(found, variant=self.variant) if target is None else found


_VARIANT_FIELDS = frozenset(field.name for field in fields(ModelSpec)) - {"name"}


@dataclass(frozen=True, kw_only=True)
class ModelFamilySpec(Spec):
    """A family of models. Its models are called ``NAME-VARIANT``, such as ``smp/unet-resnet34``.

    The target is called as ``target(in_channels=..., classes=..., variant=..., **options)``.

    Attributes:
        variants: ``"package.module:function"``. The function takes the name of the family and returns a mapping from
            variant to the fields of its :class:`ModelSpec` that differ from those of the family, such as ``flags``,
            ``parameters`` and ``encoder_weights``. It is called when a model of the family is used or listed, and must
            not import torch.
        paper: citation of the architecture.
        doi: its DOI, without the resolver.
        licence: SPDX identifier of the code.
        minimum_size: smallest height and width in pixels.
        separator: separates the name of the family from the variant; "/" for a family whose variants share only their
            source, such as ``torchgeo/*``.
    """

    KIND: ClassVar[str] = "model family"
    FIXED: ClassVar[tuple[str, ...]] = ModelVariantSpec.FIXED

    variants: str
    paper: str = ""
    doi: str = ""
    licence: str = "Apache-2.0"
    minimum_size: int = 1
    separator: str = "-"

    @property
    def pattern(self) -> str:
        """Shell pattern of the names: ``smp/unet-*``."""
        return f"{self.prefix}*"

    @cached_property
    def table(self) -> Mapping[str, Mapping[str, Any]]:
        """Fields of each model that differ from those of the family, by variant.

        Raises:
            PluginError: if the plugin cannot list them.
        """
        function = self.resolve(self.variants)
        try:
            found: object = function(self.name)
        except (Exception, SystemExit) as error:
            raise PluginError(f"its models cannot be listed ({one_line(error)})", where=self.label) from error
        if not isinstance(found, Mapping):
            raise PluginError(f"{self.variants} returned {type(found).__name__}, not a mapping", where=self.label)
        return found

    @cached_property
    def prefix(self) -> str:
        """Beginning of all names: ``smp/unet-``."""
        return self.name + self.separator

    def __contains__(self, name: str) -> bool:
        return name.startswith(self.prefix) and name.removeprefix(self.prefix) in self.table

    def names(self) -> list[str]:
        """Return the names of all models of the family, sorted."""
        return [f"{self.prefix}{variant}" for variant in sorted(self.table)]

    def fields_of(self, variant: str) -> Mapping[str, Any]:
        """Return the fields of one model that differ from those of the family.

        Raises:
            PluginError: if the plugin returns something other than a mapping, or counts that are not numbers.
        """
        found: object = self.table[variant]
        if not isinstance(found, Mapping):
            problem = f"the fields of {variant!r} are of type {type(found).__name__}, not a mapping"
            raise PluginError(problem, where=self.label)
        for label in ("parameters", "gmac"):
            if not matches_type(found.get(label), float | None):
                problem = f"{label} of {variant!r} must be a number, not {found[label]!r}"
                raise PluginError(problem, where=self.label)
        return found

    def model(self, name: str) -> ModelVariantSpec:
        """Return the spec of one model by its full name.

        Raises:
            PluginError: if the plugin returns a field that a model does not have.
        """
        variant = name.removeprefix(self.prefix)
        own = {name: getattr(self, name) for name in ("target", "summary", "paper", "doi", "licence", "minimum_size")}
        values = {**own, **self.fields_of(variant)}
        if not _VARIANT_FIELDS.issuperset(values):
            unknown = ", ".join(sorted(set(values) - _VARIANT_FIELDS))
            raise PluginError(f"no field {unknown} of {variant!r}", where=self.label)
        values["flags"] = frozenset(values.get("flags", ()))
        values["encoder_weights"] = tuple(values.get("encoder_weights", ()))
        return ModelVariantSpec(name=name, variant=variant, **values)
