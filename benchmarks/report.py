"""The results of a run, as tables for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .timing import spread

LEGEND = (
    "Times are medians with their quartiles, of contestants that ran in turns. "
    "*A is x times faster than B*: B's time divided by A's is x. *A takes x times as long as B*: A's time divided by "
    "B's is x. Both are medians, with quartiles, over the rounds, of each round's own quotient."
)


@dataclass
class Row:
    """One contestant."""

    name: str
    seconds: list[float]
    """Seconds per `unit`, one value per round."""
    gflop: float | None
    gbyte: float | None
    """Work per unit: `gflop` of arithmetic, and `gbyte` that must at least be read from memory."""
    precision: str
    """`fp32` or `bf16`, for the ceiling that it is compared with."""
    note: str
    """Text for the last column of the table."""


@dataclass
class Stage:
    """Results of one stage."""

    name: str
    title: str
    unit: str
    """Unit of work that `seconds` refer to: `picture`, `run`, ..."""
    rows: list[Row] = field(default_factory=list)
    quotients: list[tuple[str, str, list[float]]] = field(default_factory=list)
    """Names A and B, and for each round the time of B divided by that of A."""
    absent: dict[str, str] = field(default_factory=dict)
    """Contestants that do not take part, with the reasons."""
    notes: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    """A second table; all rows have the same columns."""
    summary: str = ""
    """One line with the worst figure of all data sets, if several are measured."""

    def add(
        self,
        times: Mapping[str, list[float]],
        gflop: Mapping[str, float] | None = None,
        gbyte: Mapping[str, float] | None = None,
        bf16: Sequence[str] = (),
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Add the result of `in_turns`, with the work of those contestants for which it is known."""
        for name, seconds in times.items():
            precision = "bf16" if name in bf16 else "fp32"
            known = [None if work is None else work.get(name) for work in (gflop, gbyte)]
            self.rows.append(Row(name, seconds, *known, precision, (notes or {}).get(name, "")))

    def compare(self, this: str, *others: str) -> None:
        """Compare `this` with each of `others` that were measured."""
        seconds = {row.name: np.asarray(row.seconds) for row in self.rows}
        for other in others:
            if this in seconds and other in seconds:
                self.quotients.append((this, other, (seconds[other] / seconds[this]).tolist()))

    def skip(self, name: str, why: str) -> None:
        """Record why a contestant does not take part."""
        self.absent[name] = why


@dataclass
class Report:
    """The results of a whole run."""

    machine: dict[str, Any]
    run: dict[str, Any]
    ceilings: dict[str, float | str] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the page for people."""
        cpu, versions = self.machine["cpu"], self.machine["versions"]
        installed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        lines = ["# Benchmarks", "", f"`{self.run['command']}`", "", LEGEND, ""]
        lines += [f"- Machine: {cpu['model']} ({cpu['family_model_stepping']}), {cpu['cores']} cores, {cpu['cache']}"]
        lines[-1] += f" cache, {cpu['memory']} memory; {' '.join(cpu['flags'])}"
        lines += [f"- Versions: {installed}"]
        lines += [f"- Data: {self.run['data']}, sha256 {self.run['data_sha256'][:16]}; seed {self.run['seed']}"]
        lines += [f"- Backbone: {self.run['backbone']}", "", "## What the machine can do", ""]
        lines += [
            *table(["", "rate"], [[name, _rate(name, value)] for name, value in self.ceilings.items()]),
            "",
        ]
        if any(stage.summary for stage in self.stages):
            lines += ["## The worst of all sets", ""]
            lines += [*(f"- {stage.summary}" for stage in self.stages if stage.summary), ""]
        for stage in self.stages:
            lines += [*self.stage_lines(stage), ""]
        return "\n".join(lines)

    def stage_lines(self, stage: Stage) -> list[str]:
        """Return the part of the page about one stage."""
        lines = [f"## {stage.name}: {stage.title}", ""]
        head = ["", f"median per {stage.unit}", "quartiles", "rounds", "rate", "of the ceiling", ""]
        cells = [self._cells(row) for row in stage.rows]
        cells += [[name, why, "", "", "", "", ""] for name, why in stage.absent.items()]
        lines += table(head, cells) if cells else []
        lines += ["", *(f"- {sentence(*quotient)}" for quotient in stage.quotients)] if stage.quotients else []
        lines += ["", *(f"- {note}" for note in stage.notes)] if stage.notes else []
        if stage.figures:
            lines += ["", *table(list(stage.figures[0]), [[_text(v) for v in row.values()] for row in stage.figures])]
        return lines

    def json(self) -> dict[str, Any]:
        """Return all results, with the values of every round."""
        return {
            "machine": self.machine,
            "run": self.run,
            "ceilings": {"unit": "GFLOP/s; copy and read GB/s", **self.ceilings},
            "stages": {stage.name: self._stage_json(stage) for stage in self.stages},
        }

    def _stage_json(self, stage: Stage) -> dict[str, Any]:
        rows = []
        for row in stage.rows:
            median, lower, upper = spread(row.seconds)
            entry = {"name": row.name, "median": median, "quartiles": [lower, upper], "seconds": row.seconds}
            entry.update(gflop=row.gflop, gbyte=row.gbyte, precision=row.precision, note=row.note)
            rows.append({**entry, "of_the_ceiling": dict(self._shares(row))})
        quotients = []
        for this, other, values in stage.quotients:
            median, lower, upper = spread(values)
            meaning = f"time of {other} / time of {this}"
            quotients.append({"quotient": meaning, "median": median, "quartiles": [lower, upper]})
        return {
            "title": stage.title,
            "unit": f"seconds per {stage.unit}",
            "rows": rows,
            "quotients": quotients,
            "absent": stage.absent,
            "summary": stage.summary,
            "notes": stage.notes,
            "figures": stage.figures,
        }

    def _shares(self, row: Row) -> list[tuple[str, float]]:
        """Return the row's rates as shares of the machine's measured limits."""
        median = spread(row.seconds)[0]
        wanted = ((row.precision, row.gflop), ("read", row.gbyte))
        ceilings = ((name, work, self.ceilings.get(name)) for name, work in wanted)
        return [(n, w / median / c) for n, w, c in ceilings if w is not None and isinstance(c, float)]

    def _cells(self, row: Row) -> list[str]:
        median, lower, upper = spread(row.seconds)
        rates = [(row.gflop, "GFLOP/s"), (row.gbyte, "GB/s")]
        rate = ", ".join(f"{work / median:.3g} {unit}" for work, unit in rates if work is not None)
        share = ", ".join(f"{share:.0%} of {name}" for name, share in self._shares(row))
        quartiles = f"{duration(lower)} to {duration(upper)}"
        return [row.name, duration(median), quartiles, str(len(row.seconds)), rate, share, row.note]


def sentence(this: str, other: str, values: list[float]) -> str:
    """Return `A is x times faster than B (quartiles ...)`, or, if A is slower, how many times as long it takes."""
    median, lower, upper = spread(values)
    if median >= 1:
        return f"{this} is **{median:.3g} times faster than** {other} (quartiles {lower:.3g} to {upper:.3g})"
    median, lower, upper = spread([1 / value for value in values])
    return f"{this} takes **{median:.3g} times as long as** {other} (quartiles {lower:.3g} to {upper:.3g})"


def duration(seconds: float) -> str:
    """Format seconds in a unit that needs no exponent."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a markdown table, aligned so that it can be read in a terminal too."""
    widths = [max(3, *(len(line[column]) for line in (head, *rows))) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths)] for line in (head, rule, *rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _rate(name: str, value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g} {'GB/s' if name in ('copy', 'read') else 'GFLOP/s'}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
