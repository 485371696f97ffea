"""Anyone's patches: a folder of images and a folder of masks."""

from zoo.datasets.folder.folder_dataset import Folder

__all__ = ["Folder"]
