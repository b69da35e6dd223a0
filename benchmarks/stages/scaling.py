"""How time and memory of a fit grow with the number of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.storage.files import make_folder, scratch_folder

from ..engines import missing
from ..fit_alone import fit_alone
from ..multiply import multiply
from ..report import Stage
from ..subject import METHODS, Subject

PLOT = "scaling.png"


def run(subject: Subject) -> Stage:
    """PatchCore on `--counts` pictures, a fresh process each; plotted beside the report."""
    stage = Stage("scaling", "whole PatchCore fits, calibration included, a fresh process each", "fit")
    counts, found = sorted(set(subject.counts)), []
    with scratch_folder() as folder:
        multiply(subject.category.train_pictures(), counts[-1], subject.preprocess, subject.seed, folder)
        for count in counts:
            job = {"folder": str(folder), "count": count, "arch": subject.arch, "weights": subject.weights}
            job |= {"resize": subject.preprocess.resize, "crop_size": subject.preprocess.crop_size}
            job |= {"seed": subject.seed, "threads": subject.threads, "k": METHODS["patchcore"][1]}
            found.append(fit_alone(job))
    names = {count: f"{count} pictures" for count in counts}
    stage.add({names[count]: [result["seconds"]] for count, result in zip(counts, found)})
    stage.figures = [{"pictures": count, **result} for count, result in zip(counts, found)]
    stage.notes.append(f"pictures are stored at {subject.preprocess.resize} pixels, so decoding is a small part")
    if len(counts) > 1:
        for key, what in (("seconds", "time"), ("peak_mb", "peak memory")):
            power = exponent(counts, [result[key] for result in found])
            stage.notes.append(f"{what} grows with the {power:.2f}th power of the number of pictures (log-log slope)")
    why = missing("matplotlib")
    stage.notes.append(f"no plot: {why}" if why else f"plot: {plot(counts, found, subject.folder / PLOT)}")
    return stage


def exponent(counts: list[int], values: list[float]) -> float:
    """The slope of the straight line that fits the logarithms best."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def plot(counts: list[int], found: list[dict[str, float]], path: Path) -> Path:
    """Time and peak memory over the number of pictures, all axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("seconds", "peak_mb"), ("fit, seconds", "peak memory, MB")):
        values = [result[key] for result in found]
        axes.loglog(counts, values, "o-")
        for count, value in zip(counts, values):
            axes.annotate(f"{value:.3g}", (count, value), textcoords="offset points", xytext=(4, -11))
        title = f"slope {exponent(counts, values):.2f}" if len(counts) > 1 else ""
        axes.set(xlabel="training pictures", ylabel=label, title=title)
        axes.grid(True, which="both", alpha=0.3)
    make_folder(path.parent)
    figure.savefig(path, dpi=110)
    return path
