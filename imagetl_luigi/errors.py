"""Everything that imagetl_luigi raises on purpose.

    ImagetlError
    ├── ParameterError         a parameter or a setting that cannot be right
    ├── StorageError           a file that cannot be read or written
    ├── DownloadError          the source could not be fetched
    │   ├── TransientError     … but may be, if asked again
    │   └── SourceConflict     … because the data file came from another URL
    ├── SplitError             the stream is not a sequence of whole frames
    ├── ManifestError          manifest.json is not what Split wrote
    ├── FrameError             a frame that cannot be written, read or decoded
    ├── DaskWorkerError        Dask cannot run the tasks at all
    ├── PageError              a page would overwrite a file that is none of ours
    ├── DrawingError           Graphviz cannot draw the tasks
    └── LuigidError            the central scheduler cannot be started or stopped

Each message names the value, what is allowed or expected, and what to do.
They are meant for the person at the terminal, who is shown the message and no traceback.
"""

from __future__ import annotations


class ImagetlError(Exception):
    """Base of all errors of this package."""


class ParameterError(ImagetlError, ValueError):
    """A parameter of a task or a setting of luigi.cfg has a value that cannot be right."""


class StorageError(ImagetlError, OSError):
    """A file of the workspace cannot be read or written: no space, no permission, no such path."""


class DownloadError(ImagetlError):
    """The source could not be fetched whole; asking again would not help."""


class TransientError(DownloadError):
    """The source could not be fetched whole, but asking again may help.

    Attributes:
        retry_after: seconds that the server asked us to wait (RFC 9110, 10.2.3), or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceConflict(DownloadError):
    """The data file is there, but it was fetched from another URL."""


class SplitError(ImagetlError, ValueError):
    """The stream holds no frame, or a frame that breaks off or passes a limit."""


class ManifestError(ImagetlError, ValueError):
    """The manifest is not one that Split wrote: damaged, edited, or of another schema."""


class FrameError(ImagetlError, ValueError):
    """A frame cannot be written, read back or decoded."""


class DaskWorkerError(ImagetlError, RuntimeError):
    """Dask cannot run the tasks at all: no scheduler, no worker, a lost connection."""


class PageError(ImagetlError):
    """Where a page is to be written lies a file that this package has not made."""


class DrawingError(ImagetlError):
    """There is no picture of the tasks: Graphviz is missing or fails."""


class LuigidError(ImagetlError, RuntimeError):
    """The central scheduler cannot be started or stopped: a port in use, a database that is not there."""
