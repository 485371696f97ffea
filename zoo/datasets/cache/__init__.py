"""Decoded patches kept on disk and mapped into memory, keyed by the content of the files they come from."""

from zoo.datasets.cache.digests import digest_files
from zoo.datasets.cache.patches import PatchCache, open_cache

__all__ = ["PatchCache", "digest_files", "open_cache"]
