"""The results of an evaluated category that reports and logs show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from datasets.readers import Category
from deploy.results.tables import provenance_columns

from .report import Report, summary
from .run import Model, Outcome, Shown, Wanted, evaluate_category
from .times import read_times

WORST = 6
"""Largest number of misses, and of false alarms, that are shown."""


@dataclass(frozen=True)
class Chapter:
    """A category that was evaluated, and the model that it was evaluated with."""

    outcome: Outcome
    header: dict[str, Any]
    """Header of the model."""
    fitting: dict[str, float]
    """Seconds of the stages of fitting, by name; empty if they are not known."""
    command: str
    """Command of the evaluation."""

    @property
    def name(self) -> str:
        """Name of the category."""
        return self.outcome.name

    @property
    def backbone_sha256(self) -> str:
        """Fingerprints of the model's backbones."""
        return ", ".join(member["backbone"]["sha256"] for member in self.header.get("members") or [self.header])

    def misses(self) -> list[Shown]:
        """Missed pictures, at most WORST, the lowest score first; if none, the found picture with the lowest score."""
        return self._errors(defective=True)

    def false_alarms(self) -> list[Shown]:
        """False alarms, at most WORST, the highest score first; if none, the good picture with the highest score."""
        return self._errors(defective=False)

    def _errors(self, defective: bool) -> list[Shown]:
        of_side = [one for one in self.outcome.pictures if one.defective == defective]
        of_side.sort(key=lambda one: one.score if defective else -one.score)
        return [one for one in of_side if one.wrong][:WORST] or of_side[:1]


def evaluated(
    model: Model,
    path: Path,
    category: Category,
    folder: Path,
    command: str,
    wanted: Wanted,
    report: Report,
    log: Callable[[str], None],
) -> Chapter:
    """Evaluate a model, which was read from or written to `path`, on a category, and add its figures to `report`.

    The files of `evaluate_category` are written to `folder/{category}`.
    """
    provenance = provenance_columns(model.header, command)
    outcome = evaluate_category(model, category, folder / category.name, provenance, wanted)
    log(summary(outcome.row))
    report.rows.append(outcome.row)
    report.provenance.append(provenance)
    return Chapter(outcome, model.header, model.stages.seconds or read_times(path, model.header), command)
