"""Data sets from a user's own folder of images, with or without masks."""

from zoo.datasets.folder.folder_dataset import Folder, ImageFolder

__all__ = ["Folder", "ImageFolder"]
