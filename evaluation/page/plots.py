"""The plots of a report, drawn with matplotlib. Each is drawn once, and saved as svg for the page and as png file."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..aupro import PRO_LIMIT
from ..run import Outcome
from .curves import Curves, Points
from .texts import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, DEFECTIVE, LINE, DULL = "#0072B2", "#D55E00", "#1f2d3d", "#8a949e"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5b6670")
"""Colours by Okabe and Ito, which colour-blind people can distinguish. With the dashes, 28 lines are different."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
SIZE, WIDE = (3.6, 3.0), (6.4, 4.2)  # inches
MARGINS = {"left": 0.155, "right": 0.97, "bottom": 0.15, "top": 0.91}
BINS = 24
STYLE = {
    "svg.fonttype": "none",  # text stays text: it uses the page's font, and can be searched
    "svg.hashsalt": "paddlepatch",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": DULL,
    "axes.labelcolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ea",
    "grid.linewidth": 0.7,
    "xtick.color": DULL,
    "ytick.color": DULL,
    "xtick.labelcolor": LINE,
    "ytick.labelcolor": LINE,
    "text.color": LINE,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


class Labels:
    """The texts of a plot: English for the png file, and their translations to the page's language.

    Args:
        text: the words of the page's language.
    """

    def __init__(self, text: Mapping[str, str]) -> None:
        self._english, self._text = words("en"), text
        self.translated: dict[str, str] = {}
        """Translations by the English texts that were used."""

    def __call__(self, name: str, **values: object) -> str:
        """Return the English text of that name, with `values` filled in, and remember its translation."""
        english = self._english[name].format(**values)
        self.translated[english] = self._text[name].format(**values)
        return english


class Plot:
    """A finished plot: `svg` in the page's language, and `png` in English (empty unless the plot is a `file` as well).

    Browsers have fonts for every language, but matplotlib comes without a font for Chinese.
    """

    def __init__(self, figure: Figure, say: Labels, file: bool) -> None:
        from matplotlib.text import Text

        self.png = _saved(figure, "png") if file else b""
        for one in figure.findobj(Text):
            one.set_text(say.translated.get(one.get_text(), one.get_text()))
        self.svg = _saved(figure, "svg").decode()

    def inline(self, number: int) -> str:
        """Return the svg element for a page; its ids begin with the plot's `number`, so that they are unique there."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        text = re.sub(r'^<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'height="[\d.]+pt" ', "", text, count=1))
        text = re.sub(r' id="', f' id="p{number}-', text)
        return text.replace("url(#", f"url(#p{number}-").replace('href="#', f'href="#p{number}-')


def roc_plot(outcome: Outcome, curves: Curves, say: Labels) -> Plot:
    """Plot the true over the false positive rate of pictures, with the point of the threshold in use."""
    with _axes(say("plot_roc"), say("axis_alarms"), say("axis_found")) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=DULL, linewidth=0.8, linestyle=":")
        decided = outcome.figures.decided
        if curves.roc is not None:
            axes.plot(*curves.roc, color=GOOD, linewidth=1.8, label=f"AUROC {outcome.figures.row['Image_AUROC']:.4f}")
            found = 1 - decided.misses / decided.defective
            axes.plot([decided.false_alarms / decided.good], [found], **_marker(say))
        _finish(axes, say, "lower right")
        return Plot(figure, say, file=True)


def recall_plot(outcome: Outcome, curves: Curves, say: Labels) -> Plot:
    """Plot precision over recall of pictures, with the point of the threshold in use."""
    with _axes(say("plot_recall"), say("axis_recall"), say("axis_precision")) as (figure, axes):
        decided = outcome.figures.decided
        if curves.recall is not None:
            label = f"AP {outcome.figures.row['Image_AP']:.4f}"
            axes.plot(*curves.recall, color=GOOD, linewidth=1.8, drawstyle="steps-pre", label=label)
            found = decided.defective - decided.misses
            if found:
                axes.plot([found / decided.defective], [found / (found + decided.false_alarms)], **_marker(say))
        _finish(axes, say, "lower left")
        return Plot(figure, say, file=False)


def pro_plot(outcome: Outcome, curves: Curves, say: Labels) -> Plot:
    """Plot the mean overlap of the true regions over the false positive rate of pixels, up to PRO_LIMIT."""
    with _axes(say("plot_pro"), say("axis_pixels"), say("axis_overlap")) as (figure, axes):
        axes.set_xlim(0, PRO_LIMIT)
        if curves.pro is not None:
            label = f"AU-PRO {outcome.figures.row['PRO_score']:.4f}"
            axes.plot(*curves.pro, color=GOOD, linewidth=1.8, label=label)
            axes.fill_between(*curves.pro, color=GOOD, alpha=0.08, linewidth=0)
        _finish(axes, say, "lower right", PRO_LIMIT)
        return Plot(figure, say, file=True)


def score_plot(outcome: Outcome, say: Labels) -> Plot:
    """Plot histograms of the image scores of good and of defective pictures, and the threshold in use."""
    with _axes(say("plot_scores"), say("axis_score"), say("axis_pictures")) as (figure, axes):
        scores = np.array([one.score for one in outcome.pictures])
        truth = np.array([one.defective for one in outcome.pictures])
        level, best = outcome.levels.image_threshold, outcome.figures.decided.best_threshold
        edges = np.histogram_bin_edges(np.append(scores, level), BINS)
        axes.hist(scores[~truth], edges, color=GOOD, alpha=0.7, label=say("label_good", count=int((~truth).sum())))
        hatched = {"facecolor": "none", "edgecolor": DEFECTIVE, "hatch": "/////"}  # good bars show through
        axes.hist(scores[truth], edges, label=say("label_defective", count=int(truth.sum())), **hatched)
        axes.axvline(level, color=LINE, linewidth=1.4, linestyle="--", label=say("label_threshold", level=level))
        if best is not None:
            axes.axvline(best, color=DULL, linewidth=1.2, linestyle=":", label=say("label_best", level=best))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # leaves room for the legend above the bars
        plain = {
            "frameon": True,
            "framealpha": 1,
            "edgecolor": "none",
            "facecolor": "white",
        }  # an opaque background, so that no line crosses its text
        axes.legend(loc="upper center", fontsize=7.5, ncols=2, borderaxespad=0.1, **plain)
        return Plot(figure, say, file=False)


def all_roc_plot(found: Mapping[str, Curves], say: Labels) -> Plot:
    """Plot the ROC curves of all categories."""
    known = {name: curves.roc for name, curves in found.items()}
    return _all(known, say, ("plot_all_roc", "axis_alarms", "axis_found"), 1.0)


def all_pro_plot(found: Mapping[str, Curves], say: Labels) -> Plot:
    """Plot the PRO curves of all categories."""
    known = {name: curves.pro for name, curves in found.items()}
    return _all(known, say, ("plot_all_pro", "axis_pixels", "axis_overlap"), PRO_LIMIT)


def _all(found: Mapping[str, Points | None], say: Labels, names: tuple[str, str, str], limit: float) -> Plot:
    """Plot the curves of all categories that have one; a category has the same colour and dashes in every plot."""
    with _axes(*map(say, names), wide=True) as (figure, axes):
        for (name, points), colour, dash in zip(found.items(), cycle(COLOURS), cycle(DASHES)):
            if points is not None:
                axes.plot(*points, color=colour, linestyle=dash, linewidth=1.5, label=_plain(name))
        _finish(axes, say, None, limit)
        if axes.lines:
            columns = -(-len(axes.lines) // 20)
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5, ncols=columns)
        return Plot(figure, say, file=True)


@contextmanager
def _axes(title: str, across: str, up: str, wide: bool = False) -> Iterator[tuple[Figure, Axes]]:
    """Context manager that yields a figure and its axes, with our style; a `wide` figure has room for a legend."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        # computing a layout takes as long as drawing, so most plots have fixed margins
        figure = Figure(WIDE if wide else SIZE, layout="constrained" if wide else None)
        axes = figure.subplots(gridspec_kw=None if wide else MARGINS)
        axes.set(title=title, xlabel=across, ylabel=up)
        yield figure, axes


def _finish(axes: Axes, say: Labels, legend: str | None, limit: float = 1.0) -> None:
    """Set the axes to 0 to `limit` (x) and 0 to 1 (y), and add a legend, or a note if there is no curve."""
    axes.set_xlim(-0.02 * limit, 1.02 * limit)
    axes.set_ylim(-0.02, 1.03)
    if not axes.get_legend_handles_labels()[0]:
        axes.text(0.5, 0.5, say("no_curve"), transform=axes.transAxes, ha="center", va="center", color=DULL)
    elif legend:
        axes.legend(loc=legend, fontsize=8)


def _marker(say: Labels) -> dict[str, object]:
    return {
        "marker": "D", "markersize": 6, "color": DEFECTIVE, "markeredgecolor": "white", "linestyle": "none",
        "label": say("label_in_use"),
    }  # fmt: skip


def _plain(name: str) -> str:
    """Change a folder's name so that matplotlib shows it as it is: not as a formula, and not left out of legends."""
    text = name.encode(errors="backslashreplace").decode().replace("$", r"\$")
    return f"\u200a{text}" if text.startswith("_") else text


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    clean = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # warns of names with letters that the font lacks
        figure.savefig(buffer, format=kind, dpi=160, metadata=clean)
    return buffer.getvalue()
