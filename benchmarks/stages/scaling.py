"""Growth of a fit's time and memory with the number of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.readers import Category
from deploy.storage.files import make_folder, scratch_folder

from ..engines import missing
from ..fit_alone import fit_alone
from ..multiply import multiply
from ..report import Stage
from ..subject import Subject
from .fit import PERCENT

PLOT = "scaling.png"
FROM = 209  # pictures; with fewer, the fixed costs of a fit dominate


def run(subject: Subject) -> Stage:
    """Fit PatchCore on `--counts` pictures of every set, in a new process each; a plot is written beside the report."""
    stage = Stage("scaling", f"whole PatchCore fits, a bank of {PERCENT:g} %, a fresh process each", "fit")
    counts, found = sorted(set(subject.counts)), {}
    for category in subject.categories:
        found[category.name] = fits(subject, category, counts)
        stage.add({f"{category.name}, {r['pictures']} pictures": [r["seconds"]] for r in found[category.name]})
        stage.figures += [{"data": category.name, **result} for result in found[category.name]]
    stage.notes.append(f"pictures are stored at {subject.preprocess.resize} pixels, so decoding is a small part")
    worst = []
    for name, results in found.items() if len(counts) > 1 else ():
        many = [result for result in results if result["pictures"] >= FROM] or results
        for key, what in (("seconds", "time"), ("peak_mb", "peak memory")):
            power = exponent([r["pictures"] for r in many], [r[key] for r in many]) if len(many) > 1 else float("nan")
            stage.notes.append(
                f"{name}: {what} grows with the {power:.2f}th power of the number of pictures (log-log slope), "
                f"from {many[0]['pictures']} pictures on"
            )
            worst += [(power, name)] if key == "seconds" else []
    if worst:
        stage.summary = "whole fit: time grows with the {:.2f}th power of the pictures at worst, on {}".format(
            *max(worst)
        )
    why = missing("matplotlib")
    stage.notes.append(f"no plot: {why}" if why else f"plot: {plot(found, subject.folder / PLOT)}")
    return stage


def fits(subject: Subject, category: Category, counts: list[int]) -> list[dict[str, float]]:
    """Return time and memory for each number of pictures."""
    found = []
    with scratch_folder() as folder:
        multiply(category.train_pictures(), counts[-1], subject.preprocess, subject.seed, folder)
        for count in counts:
            job = {"folder": str(folder), "count": count, "arch": subject.arch, "weights": subject.weights}
            job |= {"resize": subject.preprocess.resize, "crop_size": subject.preprocess.crop_size}
            job |= {"seed": subject.seed, "threads": subject.threads, "k": PERCENT}
            found.append({"pictures": count, **fit_alone(job)})
    return found


def exponent(counts: list[int], values: list[float]) -> float:
    """Return the slope of the straight line that fits the logarithms best."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> Path:
    """Plot time and peak memory over the number of pictures, with logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("seconds", "peak_mb"), ("fit, seconds", "peak memory, MB")):
        for name, results in found.items():
            counts, values = [r["pictures"] for r in results], [r[key] for r in results]
            axes.loglog(counts, values, "o-", label=name)
            for count, value in zip(counts, values):
                axes.annotate(f"{value:.3g}", (count, value), textcoords="offset points", xytext=(4, -11))
        axes.set(xlabel="training pictures", ylabel=label)
        axes.legend()
        axes.grid(True, which="both", alpha=0.3)
    make_folder(path.parent)
    figure.savefig(path, dpi=110)
    return path
