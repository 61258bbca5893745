"""What the stages of the workflow share: their parameters, their workspace, and the way to Dask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import luigi
from luigi.rpc import RPCError
from luigi.task_status import DONE

from imagetl_luigi import config, dask_shared, logs, messages, run_end, storage
from imagetl_luigi.dask_chunk import Failure
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.download import fetch
from imagetl_luigi.errors import ImagetlError, SourceConflict
from imagetl_luigi.frame_tasks import ImagetlTask
from imagetl_luigi.logs import logger
from imagetl_luigi.manifest import Manifest
from imagetl_luigi.parameters import PathParameter, UrlParameter, refuse_empty_flags
from imagetl_luigi.progress import Progress
from imagetl_luigi.settings import DaskSettings
from imagetl_luigi.source import Source, public_url
from imagetl_luigi.targets import DataFileTarget
from imagetl_luigi.worker_check import SameWorkspace
from imagetl_luigi.workspace import Workspace

NOTEBOOK_URL = "https://github.com/cicdw/image-data/blob/master/all-images.img?raw=true"
"""The file of the notebook that this workflow began as."""

logs.install({RPCError: "start luigid (scripts/luigid start), or give --local-scheduler"})
run_end.call(messages.tell)


def _end_cluster(_: run_end.Run) -> None:
    dask_shared.close()


run_end.call(_end_cluster)


def _forget_waiting(run: run_end.Run) -> None:
    """A run that waited for another one's task, and then ended well, leaves nothing to others: Luigi would exit with
    `already_running`.
    """
    if run.worker is not None:
        done = {task.task_id for task, status, _ in run.worker._add_task_history if status == DONE}
        if all(task.task_id in done for task in run.tasks):
            for answer in run.worker._get_work_response_history:
                answer["running_tasks"] = []


run_end.call(_forget_waiting)


def reason(failure: Failure) -> str:
    """Why a task failed on Dask: the message of an error of ours, and the traceback of any other."""
    return logs.explain(failure.exception) if isinstance(failure.exception, ImagetlError) else failure.traceback


class SettledTask(ImagetlTask):
    """A task that refuses parameters and settings which cannot be right, and takes its settings along."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.check()

    def __getstate__(self) -> dict[str, Any]:
        """With the settings: Luigi's processes know those of the command line only where they are forked."""
        return {**self.__dict__, "_settings": config.carried()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config.take_over(state.pop("_settings"))
        self.__dict__.update(state)

    def check(self) -> None:
        """Refuse parameters and settings that cannot be right, before anything runs. Raises ParameterError."""
        refuse_empty_flags(self)
        config.check()
        if config.dask().scheduler == "cluster":
            dask_shared.prepare()

    def hold(self, root: str) -> contextlib.AbstractContextManager[None]:
        """Hold a workspace: two runs that change the same files would mix them."""
        return storage.locked(root, lambda: logger.info("%s waits for another run in %s", self.task_family, root))

    def fetch(self, target: DataFileTarget, known: Source | None = None) -> Source | None:
        """Fetch the data file, unless it is there or the source is still the version `known`.

        Returns:
            What was fetched; None if nothing was to be.

        Raises:
            DownloadError: it cannot be fetched; of these, SourceConflict if the file that is there is of another URL.
        """
        other = target.other_url()
        if other and storage.exists(target.path):
            raise SourceConflict(
                f"{target.path} was fetched from {other} and not from {public_url(target.url)}; "
                "choose another place, or remove the file"
            )
        if target.exists():  # another run may have fetched it while we waited for the workspace
            return None
        with Progress(self, "bytes") as progress:
            source = fetch(
                target.url,
                target.path,
                settings=config.download().settings(),
                limits=config.limits().settings(),
                progress=progress,
                known=known,
            )
        if source:
            logger.info("Download: %s, %s bytes, sha256 %s", target.path, f"{source.length:,}", source.sha256)
        return source

    def dispatch(
        self,
        tasks: Iterable[luigi.Task],
        total: int,
        settings: DaskSettings,
        noun: str,
        look: Callable[[], Callable[[], None]],
    ) -> list[Failure]:
        """Have `total` tasks run on Dask, and return those that failed; for none, no Dask is started.

        Args:
            noun: what is counted where progress is shown.
            look: gives what every worker checks before it works, if there are any but threads of this process.
        """
        if not total:
            return []
        if settings.scheduler == "cluster":
            settings = replace(settings, scheduler=dask_shared.address(settings))
        check = look() if settings.scheduler != "threads" else None
        with DaskWorker(settings, report_to=self, check=check) as worker:
            return worker.run(tasks, total, noun=noun)


class ImagetlStage(SettledTask):
    """A stage of the workflow, whose files lie in one workspace."""

    url = UrlParameter(
        default=NOTEBOOK_URL,
        description="what to fetch: http://…, https://…, s3://…, file:///… or a path; default: the notebook's",
    )
    workspace = PathParameter(
        default="",
        description="place of all outputs: a folder, or a URL such as s3://bucket/prefix; "
        "default: data/NAME-HASH, derived from the URL",
    )
    data_file = PathParameter(
        default="image-data.img", description="the downloaded file: a name in the workspace, or an absolute path or URL"
    )

    def check(self) -> None:
        """Refuse places that are none, too."""
        super().check()
        self.paths()

    def paths(self) -> Workspace:
        """Where this run's files lie."""
        return Workspace.of(self.url, self.workspace, self.data_file)

    def working_paths(self) -> Workspace:
        """Where they lie for those who do the work, who may have been started in another folder."""
        return self.paths() if config.dask().scheduler == "threads" else self.paths().absolute()

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Hold this run's workspace."""
        return self.hold(self.paths().root)

    def on_dask(
        self,
        tasks: Iterable[luigi.Task],
        total: int,
        settings: DaskSettings,
        manifest: Manifest,
        noun: str = "frames",
    ) -> list[Failure]:
        """Have `total` tasks run, and return those that failed; for none, no Dask is started."""
        return self.dispatch(
            *(tasks, total, settings, noun),
            look=lambda: SameWorkspace.seen_here(self.paths().absolute(), manifest.digest.encode()),
        )
