"""The former home of the registrations, for environments whose installed entry points still name it."""

from zoo.datasets.builtin import zoo_register_datasets

__all__ = ["zoo_register_datasets"]
