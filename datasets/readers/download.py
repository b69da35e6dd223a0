"""Download of MVTec AD: it can be resumed, is verified, and is unpacked only into its own folders."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import socket
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.storage.files import make_folder, scratch_folder

from .category import names_in
from .mvtec import GROUPS

LICENCE = (
    "MVTec AD (Bergmann et al., CVPR 2019) is licensed CC BY-NC-SA 4.0: for non-commercial use, "
    "https://www.mvtec.com/company/research/datasets/mvtec-ad"
)


class Archive(NamedTuple):
    """One file to download."""

    url: str
    digest: str
    """`sha256:` or `md5:`, followed by the file's digest in hexadecimal digits."""


SHARE = "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download"
WHOLE = Archive(
    "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
    "mvtec_anomaly_detection.tar.xz",
    "sha256:cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
)
ARCHIVES = {
    name: Archive(f"{SHARE}/{place}/{name}.tar.xz", f"md5:{digest}")
    for name, place, digest in (
        ("bottle", "420937370-1629951468", "79b4d46b8647d969e323afef8d8445ff"),
        ("cable", "420937413-1629951498", "2ba411739e8239e7558ead13f18b0ead"),
        ("capsule", "420937454-1629951595", "380afc46701c99cb7b9a928edbe16eb5"),
        ("carpet", "420937484-1629951672", "5ce0a646d054d9e88195bd74c690de4b"),
        ("grid", "420937487-1629951814", "37239e47f99673bb73393b67ca4cc418"),
        ("hazelnut", "420937545-1629951845", "5c30a9e574a762d845ca79cf2f241b01"),
        ("leather", "420937607-1629951964", "e7971b60323840bfc36247e8d9c3598e"),
        ("metal_nut", "420937637-1629952063", "bfbc32e780827923f4b2c61923e364f7"),
        ("pill", "420938129-1629953099", "834e2d57f62cd4d8d74cd0a5775cc48b"),
        ("screw", "420938130-1629953152", "2e817e865841f4947db4ded51c13bb23"),
        ("tile", "420938133-1629953189", "d78d2c0f6d8bbe9cbe3b72a77bc3e328"),
        ("toothbrush", "420938134-1629953256", "53ba30bb7aeac103e28e1b83ae28ffb9"),
        ("transistor", "420938166-1629953277", "4fe2681f0ce1793cbf71d762f926d564"),
        ("wood", "420938383-1629953354", "b2478b1c65e9a470f360cc6173299d58"),
        ("zipper", "420938385-1629953449", "015bfd289a1782abc77318aa015a728d"),
    )
}
BLOCK = 1 << 20
TRIES = 4
"""Number of attempts to download a file, each of which resumes the one before."""
TIMEOUT = 60  # seconds without a byte
CUT = (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, socket.timeout, ssl.SSLError)
"""Errors of a connection. In Python 3.9 a timeout of a socket is not a TimeoutError."""
MOST_BYTES, MOST_FILES = 20 << 30, 100_000
"""Limits for the content of one archive; the whole data set has 5 GB in 6,700 files."""


def download(data_path: Path, selection: str) -> None:
    """Download the categories of MVTec AD that `selection` names and that `data_path` lacks.

    If they are more than half of all categories, the archive of the whole data set is downloaded.

    Raises:
        UserError: no such category, no connection, a wrong checksum, or no space. No incomplete category is left in
            `data_path`, and the bytes downloaded so far are kept for the next attempt.
    """
    wanted = _missing(data_path, selection)
    if not wanted:
        return
    print(LICENCE, flush=True)
    whole = 2 * len(wanted) > len(ARCHIVES)
    for name, archive in [("mvtec_anomaly_detection", WHOLE)] if whole else [(n, ARCHIVES[n]) for n in wanted]:
        file = fetch(archive, cache())
        unpack(file, data_path, set(wanted) if whole else {name})
        file.unlink()
    missing = _missing(data_path, selection)
    if missing:
        raise UserError(f"--download: the archive does not hold {', '.join(missing)}")
    print(f"downloaded to {data_path}: {', '.join(wanted)}", flush=True)


def _missing(data_path: Path, selection: str) -> list[str]:
    names = {"all": tuple(ARCHIVES), **GROUPS}.get(selection) or names_in(selection)
    unknown = [name for name in names if name not in ARCHIVES]
    if unknown:
        raise UserError(f"--download fetches MVTec AD, which has no {', '.join(unknown)}; it has {', '.join(ARCHIVES)}")
    return [name for name in names if not (data_path / name).exists()]


def cache() -> Path:
    """Return the folder where archives are kept until they are unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddlepatch"


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive to `folder`, resuming an earlier attempt, and verify it; return its path."""
    kind, digest = archive.digest.split(":")
    place = make_folder(folder) / PurePosixPath(archive.url).name
    part = place.with_name(f"{place.name}.{digest[:8]}.part")
    if not place.is_file():
        _complete(archive.url, part)
        os.replace(part, place)
    found = hashlib.new(kind, usedforsecurity=False)
    with open(place, "rb") as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        for block in progress(blocks, -(-place.stat().st_size // BLOCK), f"checking {place.name}", "MB", delay=1):
            found.update(block)
    if found.hexdigest() != digest:
        place.unlink()
        raise UserError(f"{archive.url} is not what it should be ({kind} {found.hexdigest()}, not {digest}): removed")
    return place


def _complete(url: str, part: Path) -> None:
    """Download the bytes that the file `part` lacks; if the connection breaks, resume it, up to TRIES times."""
    for attempt in range(TRIES):
        before = part.stat().st_size if part.is_file() else 0
        try:
            with _open(url, before) as answer, open(part, "ab") as file:
                resumed = answer.status == 206
                if not resumed:
                    file.truncate(0)
                start = before if resumed else 0
                length = answer.headers.get("Content-Length")
                total = start + int(length) if length else None
                blocks = iter(lambda: answer.read(BLOCK), b"")
                count = None if total is None else -(-(total - start) // BLOCK)
                for block in progress(blocks, count, part.name.rsplit(".", 2)[0], "MB"):
                    file.write(block)
            if total is None or part.stat().st_size == total:
                return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the range is empty: the file is complete
                return
            raise UserError(f"cannot fetch {url}: the server answers {error.code} {error.reason}") from error
        except CUT as error:
            if attempt == TRIES - 1:
                raise _cut(url, str(error)) from error
        except OSError as error:
            raise UserError(f"cannot write {part}: {error.strerror}; free space there and start again") from error
    raise _cut(url, "the connection was cut")


def _open(url: str, start: int) -> urllib.response.addinfourl:
    headers = {"User-Agent": "paddlepatch", **({"Range": f"bytes={start}-"} if start else {})}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _cut(url: str, why: str) -> UserError:
    return UserError(f"cannot fetch {url}: {why}; start again, it goes on where it was")


def unpack(file: Path, data_path: Path, wanted: Iterable[str]) -> None:
    """Unpack the `wanted` top folders of a tar file into `data_path`, each completely or not at all.

    Only files below these folders are unpacked, no links and no devices. Folders that exist already are not changed.

    Raises:
        UserError: the archive is damaged, has paths that lead out of its folder, or exceeds MOST_BYTES or MOST_FILES.
    """
    with scratch_folder(beside=data_path) as aside:
        try:
            with tarfile.open(file) as archive:
                for member, parts in progress(_members(file, archive), None, f"unpacking {file.name}", "file"):
                    if parts[0] in wanted:
                        target = aside.joinpath(*parts)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with archive.extractfile(member) as source, open(target, "xb") as made:
                            shutil.copyfileobj(source, made, BLOCK)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
            told = str(error).partition("\n")[0].rstrip(":")
            raise UserError(f"{file} is damaged ({told}): remove it and start again") from error
        except OSError as error:
            raise UserError(f"cannot unpack {file} into {data_path}: {error.strerror or error}") from error
        for folder in sorted(aside.iterdir()):
            if not (data_path / folder.name).exists():
                os.replace(folder, data_path / folder.name)


def _members(file: Path, archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tuple[str, ...]]]:
    """Yield every file of the archive with the parts of its path.

    UserError for a path that leads out of the folder, and for too many files or bytes.
    """
    size = 0
    for number, member in enumerate(archive):
        path = PurePosixPath(member.name)
        parts = tuple(part for part in path.parts if part != ".")
        if path.is_absolute() or ".." in parts:
            raise UserError(f"{file} holds {member.name!r}, which leads out of its folder: it is not unpacked")
        size += member.size
        if size > MOST_BYTES or number > MOST_FILES:
            raise UserError(f"{file} holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GB: it is not unpacked")
        if member.isfile() and len(parts) > 1:
            yield member, parts
