"""The content of the page, as plain values for its template."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.calibration import Calibration
from deploy.results.description import recorded

from ..chapter import Chapter
from ..report import FIGURES, means_of
from ..run import Outcome, Shown
from .published import MEAN, published_for

SHOWN = ("Image_AUROC", "Pixel_AUROC", "PRO_score", "PRO_score_0.05", "Image_AP", "Image_F1max", "Image_F1", "Pixel_AP")
"""The figures of the page's first table."""
QUALITY = 80  # quality of WebP, 0 to 100
MARKS = {"missed": "✕", "alarm": "!", "found": "✓", "passed": "✓"}
"""Signs of the verdicts, so that they are not shown by colour alone."""


def content(chapters: Sequence[Chapter], text: Mapping[str, str]) -> dict[str, Any]:
    """Return all values of the page except its plots; `text` has the words in the page's language."""
    decided = [chapter.outcome.figures.decided for chapter in chapters]
    stages = {
        side: list(dict.fromkeys(stage for chapter in chapters for stage in of(chapter)))
        for side, of in {"fitting": _fitting, "evaluation": _evaluation}.items()
    }
    return {
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "models": list(dict.fromkeys(_model(chapter) for chapter in chapters)),
        "totals": {
            "categories": str(len(chapters)),
            "pictures": str(sum(len(chapter.outcome.pictures) for chapter in chapters)),
            "misses": _share(sum(one.misses for one in decided), sum(one.defective for one in decided), text),
            "false_alarms": _share(sum(one.false_alarms for one in decided), sum(one.good for one in decided), text),
        },
        "headings": [text[name] for name in SHOWN],
        "kinds": sorted({one.kind for chapter in chapters for one in chapter.outcome.pictures if one.defective}),
        "rows": [_row(chapter, text) for chapter in chapters],
        "mean": _mean(chapters),
        "sources": _sources(chapters),
        "stages": stages,
        "times": [
            {
                "name": chapter.name,
                **{
                    side: [_seconds(of(chapter).get(stage)) for stage in stages[side]]
                    for side, of in {"fitting": _fitting, "evaluation": _evaluation}.items()
                },
            }
            for chapter in chapters
        ],
        "chapters": [_chapter(chapter, text) for chapter in chapters],
        "origins": [_origin(chapter, text) for chapter in chapters],
    }


def _fitting(chapter: Chapter) -> dict[str, float]:
    return chapter.fitting


def _evaluation(chapter: Chapter) -> dict[str, float]:
    return chapter.outcome.seconds


def _model(chapter: Chapter) -> str:
    """Return a description of the model, without what differs between categories."""
    header = chapter.header
    return f"{recorded(header)[0]} · {header['arch']} ({' '.join(header['layers'])}) · k {header['k']:g}"


def _row(chapter: Chapter, text: Mapping[str, str]) -> dict[str, Any]:
    """Return a category's row of the first table."""
    row, decided = chapter.outcome.figures.row, chapter.outcome.figures.decided
    published = published_for(chapter.header)
    total = chapter.outcome.seconds.get("total")
    theirs = published.categories.get(chapter.name, {}) if published and chapter.name != MEAN else {}
    return {
        "name": chapter.name,
        "figures": [_figure(row[name], theirs.get(name)) for name in SHOWN],
        "misses": _counted(decided.misses, decided.defective, text),
        "false_alarms": _counted(decided.false_alarms, decided.good, text),
        "threshold": f"{decided.threshold:.4f}",
        "best_threshold": "" if decided.best_threshold is None else f"{decided.best_threshold:.4f}",
        "seconds": _seconds(sum(chapter.fitting.values()) + total if total is not None else None),
    }


def _mean(chapters: Sequence[Chapter]) -> list[dict[str, str]]:
    """Return the figures' means over the categories that have them, with published means over the same categories."""
    means = dict(zip(FIGURES, means_of([chapter.outcome.row for chapter in chapters])))
    published = published_for(chapters[0].header)
    theirs = published.mean_of([chapter.name for chapter in chapters]) if published else {}
    return [_figure(means[name], theirs.get(name)) for name in SHOWN]


def _sources(chapters: Sequence[Chapter]) -> list[str]:
    """Return the sources of the published figures that are shown."""
    found = [(published_for(chapter.header), chapter) for chapter in chapters]
    return list(
        dict.fromkeys(
            f"{one.source}, {recorded(chapter.header)[0]} {chapter.header['arch']} k {one.k:g}"
            for one, chapter in found
            if one and chapter.name in one.categories
        )
    )


def _figure(value: float | None, published: float | None = None) -> dict[str, str]:
    return {
        "text": "" if value is None else f"{value:.4f}",
        "published": "" if published is None else f"{published:.4f}",
    }


def _counted(count: int, total: int, text: Mapping[str, str]) -> dict[str, str]:
    """Return a count as text, and the share to sort by; empty if `total` is 0."""
    return {"text": _share(count, total, text), "value": f"{count / total:.6f}"} if total else {"text": "", "value": ""}


def _share(count: int, total: int, text: Mapping[str, str]) -> str:
    return f"{count} {text['of']} {total}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _chapter(chapter: Chapter, text: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of the page about a category."""
    outcome, misses, alarms = chapter.outcome, chapter.misses(), chapter.false_alarms()
    return {
        "name": chapter.name,
        "decided": outcome.figures.decided.told(text),
        "beside": len(misses) <= 1 and len(alarms) <= 1,
        "sides": [
            {"title": text["worst_misses"], "none": text["no_misses"], **_cards(misses, outcome)},
            {"title": text["worst_alarms"], "none": text["no_alarms"], **_cards(alarms, outcome)},
        ],
        "drawn": any(one.heat_map for one in (*misses, *alarms)),
        "kinds": _kinds(outcome),
        "pictures": [
            {**_verdict(one), "name": _tail(one.path), "kind": one.kind, "score": f"{one.score:.4f}"}
            for one in sorted(outcome.pictures, key=lambda one: (not one.wrong, -one.score))
        ],
    }


def _cards(pictures: Sequence[Shown], outcome: Outcome) -> dict[str, Any]:
    """Return pictures with their heat maps and regions, and whether the verdict of any of them is wrong."""
    cards = [
        {
            **_verdict(one),
            "name": _tail(one.path),
            "kind": one.kind,
            "score": f"{one.score:.4f}",
            "threshold": f"{outcome.levels.image_threshold:.4f}",
            **_embedded(one.heat_map),
            "regions": [
                {
                    "number": region.number,
                    "box": "{:.0f} × {:.0f}".format(*region.box[2:]),
                    "place": "{:.0f}, {:.0f}".format(*region.box[:2]),
                    "maximum": f"{region.maximum:.3f}",
                }
                for region in one.regions
            ],
            "more": one.region_count - len(one.regions),
        }
        for one in pictures
    ]
    return {"cards": cards, "any_wrong": any(one.wrong for one in pictures)}


def _verdict(one: Shown) -> dict[str, str]:
    """Return the verdict's name in the texts, and its sign."""
    return {"verdict": one.verdict, "mark": MARKS[one.verdict]}


def _kinds(outcome: Outcome) -> list[dict[str, str]]:
    """Return counts and scores of every kind of picture, good ones first."""
    rows = []
    for kind in sorted({one.kind for one in outcome.pictures}, key=lambda kind: (kind != "good", kind)):
        own = [one for one in outcome.pictures if one.kind == kind]
        scores = np.array([one.score for one in own])
        rows.append(
            {
                "kind": kind,
                "count": len(own),
                "wrong": sum(one.wrong for one in own),
                **{
                    name: f"{of(scores):.4f}"
                    for name, of in {"lowest": min, "median": np.median, "highest": max}.items()
                },
            }
        )
    return rows


def _origin(chapter: Chapter, text: Mapping[str, str]) -> dict[str, Any]:
    """Return the provenance of a category's figures."""
    header = chapter.header
    return {
        "name": chapter.name,
        "command": chapter.command,
        "fit_command": header.get("command", ""),
        "seed": header["seed"],
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(header["versions"].items())),
        "training": header["data"]["pictures"],
        "data_sha256": header["data"]["sha256"],
        "backbone_sha256": chapter.backbone_sha256,
        "levels": levels_text(chapter.outcome.levels, text),
    }


def levels_text(levels: Calibration, text: Mapping[str, str]) -> str:
    """Return the threshold and the rate or goal that it was chosen for; in English it is the same as `str(levels)`."""
    level, told = levels.image_threshold, levels.labelled
    if told is not None:
        return text["levels_labelled"].format(level=level, goal=told["goal"], good=told["good"], bad=told["defective"])
    return text["levels_plain" if levels.false_alarm is None else "levels_rate"].format(
        level=level, rate=levels.false_alarm
    )


def _tail(path: Path) -> str:
    """Return the end of a path: its folder and its name."""
    return "/".join(path.parts[-2:])


def _embedded(path: Path | None) -> dict[str, Any]:
    """Return the heat map at `path` as a data URL, compressed, with its size; an empty one if `path` is None."""
    if path is None:
        return {"image": ""}
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    packed = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    address = "data:image/webp;base64," + base64.b64encode(packed.tobytes()).decode()
    return {"image": address, "height": picture.shape[0], "width": picture.shape[1]}
