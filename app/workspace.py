"""What belongs to one visitor: pictures, model and results, in a folder that nobody else gets and that ends with them.

A visitor's browser finds its workspace again after a reload by two things together: a random key in the page's address,
and the cookie that streamlit gives to each browser. An address that was passed on opens nothing.
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
from deploy.predictor import Prediction
from deploy.storage.files import scratch_folder
from models import Detector

from .jobs import Job
from .uploads import MOST_BYTES, Refused, Upload, keep

MOST_VISITORS = 16
KEPT = 600.0
"""Seconds that a workspace is kept after its page was closed, for a reload or a lost connection."""
LOOKED = 20.0  # seconds between looks at who is gone


@dataclass
class Result:
    """One test picture and what the model says of it."""

    picture: Upload
    prediction: Prediction
    told: bool | None = None
    """Whether it is defective, by the data or by the visitor when it was dropped; None where nobody has said."""
    told_kind: str | None = None
    """`good` or the kind of defect, by the data."""
    marked: bool | None = None
    """The same by the visitor who marked a verdict as wrong; None where nothing was marked."""
    mask: np.ndarray | None = None
    """Ground truth by the data, bool [height, width] as the map; None where it is not known."""
    drawn: tuple[Any, bytes] | None = None
    """The last heat map, and what it was drawn for."""

    @property
    def truth(self) -> bool | None:
        """Whether it is defective, by the last word on it; None where nobody has said."""
        return self.told if self.marked is None else self.marked

    @property
    def kind(self) -> str:
        """`good`, or the kind of defect, which is `defective` where nobody has said more; of a known truth."""
        if self.truth:
            return self.told_kind if self.told and self.told_kind else "defective"
        return GOOD

    @property
    def truth_mask(self) -> np.ndarray | None:
        """Where it is defective, by the last word on it: bool [height, width] as the map; None where not known."""
        if self.truth is False:
            return np.zeros(self.prediction.anomaly_map.shape, bool)
        return self.mask if self.told else None

    @property
    def outline(self) -> np.ndarray | None:
        """The defects of `truth_mask`, if there are any, to be drawn."""
        mask = self.truth_mask
        return mask if mask is not None and mask.any() else None


@dataclass
class Workspace:
    """One visitor's own; `Workspaces.open` makes it."""

    key: str
    owner: str | None
    """Who may open it again; None: nobody."""
    folder: Path
    stack: ExitStack
    training: list[Upload] = field(default_factory=list)
    model: Detector | None = None
    model_name: str = ""
    results: list[Result] = field(default_factory=list)
    rate: float | None = None
    """The rate of false alarms that the visitor chose; None: the model's own threshold."""
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Keys of `app.texts`, and what they need: what was refused, and what was done."""
    job: Job | None = None
    files: dict[str, Path] = field(default_factory=dict)
    """Made for download, by kind."""
    language: str | None = None
    sessions: set[str] = field(default_factory=set)
    seen: float = field(default_factory=time.monotonic)
    _number: int = 0
    _bytes: int = 0

    @property
    def busy(self) -> bool:
        """Whether work is going on."""
        return self.job is not None and not self.job.over

    @property
    def model_path(self) -> Path:
        """Where the model is written."""
        return self.folder / "model" / "model.safetensors"

    def outdate(self) -> None:
        """Offer files about test pictures no more: their truth, or a threshold, has changed."""
        for kind in ("results", "report"):
            self.files.pop(kind, None)

    def place(self) -> Path:
        """A free place for a picture."""
        self._number += 1
        return self.folder / f"{self._number:05}"

    def take(self, files: list[tuple[str, bytes]], room: int) -> list[Upload]:
        """Keep these pictures, (name, content), `room` of them at most; what is refused is noted."""
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

    def readable(self, line: str) -> str:
        """A line of progress with the visitor's names of pictures in place of ours."""
        for picture in (*self.training, *(result.picture for result in self.results)):
            line = line.replace(str(picture.path), picture.name)
        return line.replace(f"{self.folder}/", "")

    def start(self, what: str, work: Callable[[Callable[[str], None]], None]) -> None:
        """Begin work in the background, unless some is going on."""
        if not self.busy:
            self.job = Job(what, work)

    def close(self) -> None:
        """Remove the folder and all in it, when the work that is going on has ended."""
        if self.busy:
            self.job.stop(self.stack.close)
        else:
            self.stack.close()


class Workspaces:
    """All visitors' workspaces.

    Args:
        is_active: whether a page of this session is open.
    """

    def __init__(self, is_active: Callable[[str], bool]) -> None:
        self._is_active = is_active
        self._all: dict[str, Workspace] = {}
        self._lock = threading.Lock()
        atexit.register(self.close_all)
        threading.Thread(target=self._watch, daemon=True).start()

    def open(self, key: str | None, owner: str | None) -> Workspace | None:
        """The workspace of that key if it is this owner's, else a new one; None where there are too many visitors."""
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
        """Forget a visitor."""
        with self._lock:
            self._all.pop(workspace.key, None)
        workspace.close()

    def close_all(self) -> None:
        """Remove every folder: the server ends."""
        for workspace in list(self._all.values()):
            workspace.stack.close()

    def close_left(self, now: float) -> None:
        """Close those whose pages have been closed for KEPT seconds."""
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
    """The token of a browser by its cookie `_streamlit_xsrf`, which is masked anew at each visit; None without one."""
    try:
        version, mask, masked, _ = (cookie or "").split("|")
        letters, key = bytes.fromhex(masked), bytes.fromhex(mask)
        return bytes(a ^ key[i % len(key)] for i, a in enumerate(letters)).hex() if version == "2" and letters else None
    except (ValueError, ZeroDivisionError):
        return None
