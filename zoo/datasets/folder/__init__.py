"""Anyone's patches: a folder of images and a folder of masks."""

from zoo.datasets.folder.dataset import Folder

__all__ = ["Folder"]
