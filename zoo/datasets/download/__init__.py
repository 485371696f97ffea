"""Getting published data: resumable downloads with checksums, guarded unpacking, and what to say when data are absent.

Nothing here is fetched unless a user asks for it (``download=True``). Imports no torch.
"""

from zoo.datasets.download.absence import absent
from zoo.datasets.download.fetch import Progress, RemoteFile, check_file, fetch
from zoo.datasets.download.unpack import unpack

__all__ = ["Progress", "RemoteFile", "absent", "check_file", "fetch", "unpack"]
