"""Workspaces: the pictures, model and results of each visitor, in a private folder that is deleted afterwards.

After a reload, a visitor's browser finds its workspace by two things together: a random key in the page's address, and
the cookie that streamlit gives to each browser. The address alone does not open a workspace for other people.
"""

from __future__ import annotations

import atexit
import secrets
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

from datasets.readers.category import GOOD
from deploy.errors import UserError
from deploy.predictor import Prediction
from deploy.storage.files import scratch_folder
from models import Detector

from .jobs import Job
from .uploads import MOST_BYTES, Refused, Upload, keep

MOST_VISITORS = 16
KEPT = 600.0
"""Seconds that a workspace is kept after its page was closed, in case of a reload or a lost connection."""
LOOKED = 20.0  # seconds between two checks for closed pages


@dataclass
class Result:
    """A test picture and its result."""

    picture: Upload
    prediction: Prediction
    told: bool | None = None
    """Whether it is defective, from the data set or from the visitor at the upload; None if not known."""
    told_kind: str | None = None
    """`good` or the kind of defect, from the data set."""
    marked: bool | None = None
    """Whether it is defective, from the visitor who marked the verdict as wrong; None if nothing was marked."""
    mask: np.ndarray | None = None
    """Ground truth from the data set, bool [height, width] as the map; None if not known."""
    drawn: tuple[Any, bytes] | None = None
    """The settings that the last heat map was drawn for, and the heat map as PNG."""

    @property
    def truth(self) -> bool | None:
        """Whether it is defective: `marked` if known, else `told`; None if neither is known."""
        return self.told if self.marked is None else self.marked

    @property
    def kind(self) -> str:
        """`good` or the kind of defect, for a known truth; `defective` if the kind is not known."""
        if self.truth:
            return self.told_kind if self.told and self.told_kind else "defective"
        return GOOD

    @property
    def truth_mask(self) -> np.ndarray | None:
        """The ground truth that agrees with `truth`: bool [height, width] as the map; None if not known."""
        if self.truth is False:
            return np.zeros(self.prediction.anomaly_map.shape, bool)
        return self.mask if self.told else None

    @property
    def outline(self) -> np.ndarray | None:
        """`truth_mask` if it marks a defect, to be drawn; else None."""
        mask = self.truth_mask
        return mask if mask is not None and mask.any() else None


@dataclass
class Workspace:
    """The data of one visitor; made by `Workspaces.open`."""

    key: str
    owner: str | None
    """Token of the browser that may open it again; None: it cannot be opened again."""
    folder: Path
    stack: ExitStack
    training: list[Upload] = field(default_factory=list)
    model: Detector | None = None
    model_name: str = ""
    results: list[Result] = field(default_factory=list)
    rate: float | None = None
    """False alarm rate that the visitor chose; None: the model's own threshold."""
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Messages about what was refused or done: keys of `app.texts`, with the values for their texts."""
    job: Job | None = None
    files: dict[str, Path] = field(default_factory=dict)
    """Files for download, by kind."""
    language: str | None = None
    sessions: set[str] = field(default_factory=set)
    seen: float = field(default_factory=time.monotonic)
    _number: int = 0
    _bytes: int = 0

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or running."""
        return self.job is not None and not self.job.over

    @property
    def model_path(self) -> Path:
        """Path of the model."""
        return self.folder / "model" / "model.safetensors"

    def outdate(self) -> None:
        """Drop the downloads about test pictures, because their truth or a threshold has changed."""
        for kind in ("results", "report"):
            self.files.pop(kind, None)

    def place(self) -> Path:
        """Return an unused path for a picture."""
        self._number += 1
        return self.folder / f"{self._number:05}"

    def take(self, files: list[tuple[str, bytes]], room: int) -> list[Upload]:
        """Keep at most `room` of these pictures, given as (name, content); refused ones are added to `notes`."""
        taken: list[Upload] = []
        for number, (name, data) in enumerate(files):
            if len(taken) == room or self._bytes + len(data) > MOST_BYTES:
                self.notes.append(("no_room", {"count": len(files) - number}))
                break
            try:
                taken.append(keep(data, name, self.place()))
                self._bytes += len(data)
            except Refused as refused:
                self.notes.append((refused.reason, refused.told))
        return taken

    def remove(self, pictures: list[Upload]) -> None:
        """Delete these pictures."""
        for picture in pictures:
            if picture.path.parent == self.folder and picture.path.is_file():
                self._bytes -= picture.path.stat().st_size
                picture.path.unlink()

    def leave_out(self, picture: Upload, error: UserError) -> None:
        """Note why a picture cannot be used, and delete it."""
        self.notes.append(("left_out", {"cause": str(error).replace(str(picture.path), picture.name)}))
        self.remove([picture])
        self.training = [other for other in self.training if other.path != picture.path]

    def readable(self, line: str) -> str:
        """Replace our paths of pictures in a progress line by the visitor's names."""
        for picture in (*self.training, *(result.picture for result in self.results)):
            line = line.replace(str(picture.path), picture.name)
        return line.replace(f"{self.folder}/", "")

    def start(self, what: str, work: Callable[[Callable[[str], None]], None]) -> None:
        """Start a background job, unless one is waiting or running."""
        if not self.busy:
            self.job = Job(what, work)

    def close(self) -> None:
        """Remove the folder with all files; if a job is running, it is stopped before."""
        if self.busy:
            self.job.stop(self.stack.close)
        else:
            self.stack.close()


class Workspaces:
    """The workspaces of all visitors.

    Args:
        is_active: function that says whether the page of a session is open.
    """

    def __init__(self, is_active: Callable[[str], bool]) -> None:
        self._is_active = is_active
        self._all: dict[str, Workspace] = {}
        self._lock = threading.Lock()
        atexit.register(self.close_all)
        threading.Thread(target=self._watch, daemon=True).start()

    def open(self, key: str | None, owner: str | None) -> Workspace | None:
        """Return the workspace of that key if it belongs to this owner, else a new one; None if there are too many."""
        with self._lock:
            found = self._all.get(key or "")
            same = found is not None and owner is not None and secrets.compare_digest(found.owner or "", owner)
            if same and found.folder.is_dir():
                return found
            if len(self._all) >= MOST_VISITORS:
                return None
            stack = ExitStack()
            made = Workspace(secrets.token_urlsafe(16), owner, stack.enter_context(scratch_folder()), stack)
            self._all[made.key] = made
            return made

    def close(self, workspace: Workspace) -> None:
        """Close a visitor's workspace and delete its data."""
        with self._lock:
            self._all.pop(workspace.key, None)
        workspace.close()

    def close_all(self) -> None:
        """Remove the folders of all workspaces, when the server ends."""
        for workspace in list(self._all.values()):
            workspace.stack.close()

    def close_left(self, now: float) -> None:
        """Close the workspaces whose pages have been closed for KEPT seconds."""
        for workspace in list(self._all.values()):
            if any(self._is_active(session) for session in list(workspace.sessions)):
                workspace.seen = now
            elif now - workspace.seen > KEPT:
                self.close(workspace)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOKED)
            self.close_left(time.monotonic())


def owner_of(cookie: str | None) -> str | None:
    """Return a browser's token from its cookie `_streamlit_xsrf`; None if there is no valid cookie.

    The cookie holds the token with a mask, which changes at every visit.
    """
    try:
        version, mask, masked, _ = (cookie or "").split("|")
        letters, key = bytes.fromhex(masked), bytes.fromhex(mask)
        return bytes(a ^ key[i % len(key)] for i, a in enumerate(letters)).hex() if version == "2" and letters else None
    except (ValueError, ZeroDivisionError):
        return None
