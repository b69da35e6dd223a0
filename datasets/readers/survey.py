"""Check of a category's pictures and masks before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deploy.command_line.progress import progress
from deploy.errors import UserError
from deploy.pictures.decode import decode_deep, decode_mask
from deploy.pictures.stream import prefetch

from .category import Category, LabelledPicture
from .estimate import training_takes

THUMBNAIL = 32
ALIKE = 1.5
"""Largest root mean square difference, in grey levels, of the thumbnails of two pictures that count as nearly equal.

This was measured on bottle, hazelnut, KolektorSDD and magnetic tile. A photograph saved again as JPEG of quality 80, or
at .7 of its size, differs from itself by at most 1.4. The nearest two different photographs differ by 2.1 (bottle). The
bits of a perceptual hash do not separate the two: of 256 bits, up to 20 differ between copies (hazelnut), and only 2
between different photographs (bottle).
"""
LEAST = 2
"""Number of good pictures that fitting needs."""
WANTED = 19
"""Number of good pictures to fit on that a false alarm rate of .05 needs."""
NAMED = 3
"""Number of files that one line names."""


class Look(NamedTuple):
    """Properties of one picture."""

    shape: tuple[int, int]
    """Height and width."""
    kind: str
    """Type and number of channels in the file, for instance `uint8 x 3`."""
    digest: str
    """sha256 of the file's bytes."""
    thumbnail: np.ndarray
    """float32 [THUMBNAIL * THUMBNAIL], grey levels 0-255."""


@dataclass
class Survey:
    """Result for one category: facts, warnings, and errors with which training would fail."""

    name: str
    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def survey(category: Category, workers: int | None = None) -> Survey:
    """Read every picture and mask of a category, in `workers` threads (None: one per core), and return what is found.

    Pictures and masks that cannot be read are among the result's errors and warnings.
    """
    found = Survey(category.name)
    try:
        train = category.train_pictures()
    except UserError as error:
        train = []
        found.errors.append(str(error))
    try:
        test = category.test_pictures()
    except UserError as error:
        test = []
        found.warnings.append(str(error))
    unreadable: list[tuple[Path, UserError]] = []
    looks = _look_at([*train, *(picture.path for picture in test)], unreadable, workers, category.name)
    found.facts.append(f"to fit on: {len(train)} good pictures")
    found.facts += [test_overview(test)] if test else []
    found.facts += _sizes(looks.values())
    found.facts += [training_takes(len(train))] if len(train) >= LEAST else []
    for path, error in unreadable:
        (found.errors if path in train else found.warnings).append(str(error))
    readable = sum(path in looks for path in train)
    if train and readable < LEAST:
        found.errors.append(f"{readable} good pictures to fit on: fitting needs at least {LEAST}")
    elif readable < WANTED:
        found.warnings.append(
            f"{readable} good pictures to fit on are few: a false alarm rate of .05 needs {WANTED} or more"
        )
    found.warnings += _copies(train, [picture.path for picture in test], looks)
    mask_errors, mask_warnings = _masks(test, looks, workers)
    found.errors += mask_errors
    found.warnings += mask_warnings
    unused = category.unused_masks() if test else []
    if unused:
        found.warnings.append(f"{len(unused)} masks are of no picture: {_named(map(str, unused))}")
    return found


def test_overview(test: Sequence[LabelledPicture]) -> str:
    """Return a line about the number of test pictures of each kind."""
    kinds = Counter(picture.defect for picture in test if picture.defective)
    good, masked = sum(not picture.defective for picture in test), sum(bool(picture.masks) for picture in test)
    named = _named((f"{name} {count}" for name, count in sorted(kinds.items())), 8)
    bad = f"{sum(kinds.values())} defective, of which {masked} with a mask ({named})" if kinds else "none defective"
    return f"to test on: {good} good pictures, {bad}"


def look(path: Path) -> Look:
    """Look at one picture; UserError if it cannot be read."""
    picture = decode_deep(path)
    data = np.fromfile(path, np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    if grey.dtype == np.uint16:
        grey = (grey * (255.0 / max(int(grey.max()), 1))).astype(np.uint8)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    digest = hashlib.sha256(data.tobytes()).hexdigest()
    return Look(picture.shape[:2], f"{stored.dtype} x {channels}", digest, small.ravel())


def _look_at(
    paths: list[Path], unreadable: list[tuple[Path, UserError]], workers: int | None, what: str
) -> dict[Path, Look]:
    looks = {}
    for path, result in progress(prefetch(look, paths, workers), len(paths), what):
        try:
            looks[path] = result()
        except UserError as error:  # noqa: PERF203
            unreadable.append((path, error))
    return looks


def _sizes(looks: Iterable[Look]) -> list[str]:
    shapes, kinds = Counter(), Counter()
    for one in looks:
        shapes[one.shape] += 1
        kinds[one.kind] += 1
    if not shapes:
        return []
    (height, width), count = shapes.most_common(1)[0]
    text = f"sizes: {width} x {height}"
    if len(shapes) > 1:
        heights, widths = zip(*shapes)
        text += f" ({count}), {len(shapes) - 1} others, {min(widths)}-{max(widths)} x {min(heights)}-{max(heights)}"
    return [f"{text}; values: {', '.join(f'{kind} ({n})' for kind, n in kinds.most_common())}"]


def _copies(train: list[Path], test: list[Path], looks: dict[Path, Look]) -> list[str]:
    """Return lines about equal files and nearly equal pictures: within the pictures to fit on, and between these and
    test pictures."""
    lines = []
    fitted, tested = ([path for path in paths if path in looks] for paths in (train, test))
    first: dict[str, Path] = {}
    same = [(path, first[looks[path].digest]) for path in fitted if first.setdefault(looks[path].digest, path) != path]
    across = [(path, first[looks[path].digest]) for path in tested if looks[path].digest in first]
    exact = set(same) | set(across)
    near = [pair for pair in _near(fitted, fitted, looks) if pair not in exact]
    near_across = [pair for pair in _near(tested, fitted, looks) if pair not in exact]
    for pairs, what in (
        (same, "pictures to fit on are copies of others"),
        (across, "test pictures are also among those to fit on: figures will look too good"),
        (near, "pictures to fit on are nearly the same as others"),
        (near_across, "test pictures are nearly the same as one to fit on: figures may look too good"),
    ):
        if pairs:
            lines.append(f"{len(pairs)} {what}: {_named(f'{_short(a)} = {_short(b)}' for a, b in pairs)}")
    return lines


def _near(some: list[Path], others: list[Path], looks: dict[Path, Look]) -> list[tuple[Path, Path]]:
    """Pair each of `some` with the first of `others` that is nearly equal; in a single list, with an earlier one."""
    if not some or not others:
        return []
    table = np.stack([looks[path].thumbnail for path in others])
    lengths = (table**2).sum(axis=1, dtype=np.float64)
    pairs = []
    for number, path in enumerate(some):
        end = number if some is others else len(others)
        # the product loses digits, so it only selects candidates, whose distances are then computed exactly
        query = looks[path].thumbnail
        rough = lengths[:end] + float(query @ query) - 2.0 * (table[:end] @ query)
        for row in np.flatnonzero(rough < 2 * ALIKE**2 * query.size + 1e-6 * lengths[:end]):
            if float(((table[row] - query) ** 2).mean()) <= ALIKE**2:
                pairs.append((path, others[row]))
                break
    return pairs


def _masks(test: list[LabelledPicture], looks: dict[Path, Look], workers: int | None) -> tuple[list[str], list[str]]:
    """Return errors and warnings about the masks of defective pictures."""
    defective = [picture for picture in test if picture.defective]
    without = [picture.path for picture in defective if not picture.masks]
    errors, empty = [], []
    pairs = [(picture, mask) for picture in defective for mask in picture.masks]
    for (picture, path), result in prefetch(lambda pair: _mask_look(pair[1]), pairs, workers):
        try:
            shape, marked = result()
        except UserError as error:
            errors.append(str(error))
            continue
        if picture.path in looks and shape != looks[picture.path].shape:
            height, width = looks[picture.path].shape
            errors.append(f"{path} is {shape[1]} x {shape[0]} pixels, its picture {picture.path} {width} x {height}")
        if not marked:
            empty.append(path)
    warnings = []
    if without and len(without) < len(defective):
        warnings.append(f"{len(without)} defective pictures have no mask: {_named(path.name for path in without)}")
    if empty:
        warnings.append(f"{len(empty)} masks of defective pictures mark nothing: {_named(map(str, empty))}")
    return errors, warnings


def _mask_look(path: Path) -> tuple[tuple[int, int], bool]:
    mask = decode_mask(path)
    return mask.shape, bool(mask.any())


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _named(names: Iterable[str], most: int = NAMED) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
