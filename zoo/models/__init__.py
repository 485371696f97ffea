"""Architectures, one per file; :mod:`zoo.models.builtin` registers them. Importing this package imports no torch."""
