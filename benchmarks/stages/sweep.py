"""The greedy coreset compared with brute force over many sizes and shares, to find where it is slower."""

from __future__ import annotations

from ..points import NOISE, points_of
from ..report import Stage
from ..subject import Subject
from .coreset import choose_both, compile_first

QUICK = 0.5  # seconds; choices that take less are measured ROUNDS times
ROUNDS = 5


def run(subject: Subject) -> Stage:
    """Measure both on patches of each set, with mirrored and rotated copies, and on uniform noise."""
    stage = Stage("sweep", "the greedy coreset by size, share and data", "run")
    compile_first()
    found = []
    for category in (*subject.categories, None):
        name = NOISE if category is None else category.name
        most = points_of(subject, category, max(rows for rows, _ in subject.shapes))
        for rows, share in subject.shapes:
            if rows > len(most):
                stage.skip(f"{name}, {rows} patches", f"its pictures give {len(most)}")
                continue
            points, count = most[:rows], max(1, int(rows * share / 100))
            times, _ = choose_both(points, count, 1)
            if sum(times[0] + times[1]) < QUICK:
                times, _ = choose_both(points, count, ROUNDS)
            ours, brute = f"{name}, {rows} patches, {share:g} %", f"{name}, {rows} patches, {share:g} %: brute force"
            stage.add({ours: times[0], brute: times[1]})
            found.append((min(times[1]) / min(times[0]), ours))
            stage.figures.append({"data": name, "patches": rows, "share": share, "times as fast": found[-1][0]})
    times, where = min(found)
    stage.summary = (
        f"coreset over {len(found)} sizes and sets: {times:.3g} times as fast as brute force at worst, {where}"
    )
    stage.notes.append("the table: best time of brute force / best time of ours; the same rows everywhere")
    return stage
