"""Architectures, one a file; :mod:`zoo.models.specs` registers them. Importing this package imports no torch."""
