"""A Dask cluster that starts workers when there is work: python -m adaptive_cluster FILE-FOR-ITS-ADDRESS MOST."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from distributed import LocalCluster

if __name__ == "__main__":
    place, most = Path(sys.argv[1]), int(sys.argv[2])
    with LocalCluster(n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        cluster.adapt(minimum=0, maximum=most, interval="200 ms", target_duration="200 ms")
        place.with_suffix(".tmp").write_text(cluster.scheduler_address)
        place.with_suffix(".tmp").rename(place)
        threading.Event().wait()
