"""An image ETL on Luigi: fetch a file of frames, split it, store every frame, combine them into a GIF.

luigi --module imagetl_luigi CombineGif --local-scheduler --url http://…/all-images.img
"""

from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.frame_tasks import WriteFrame
from imagetl_luigi.gallery import Gallery
from imagetl_luigi.nightly import NightlyGif
from imagetl_luigi.streams import CombineGifs
from imagetl_luigi.tasks import CombineGif, Download, Split, WriteFrames
from imagetl_luigi.watch import WatchPage

__version__ = "0.1.0"

__all__ = [
    "CombineGif",
    "CombineGifs",
    "DaskWorker",
    "Download",
    "Gallery",
    "NightlyGif",
    "Split",
    "WatchPage",
    "WriteFrame",
    "WriteFrames",
    "__version__",
]
