"""Sentinel-2 as it is handed out: products on a disk, catalogues online."""
