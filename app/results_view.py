"""The second step on the page: test pictures and their results."""

from __future__ import annotations

import altair as alt
import streamlit as st

from app import steps
from app.model_view import receive
from app.texts import Say, escaped
from app.uploads import MOST_TESTED
from app.workspace import Result, Workspace
from deploy.calibration import Calibration

PER_PAGE = 6
KNOWN = {"unknown": None, "all_good": False, "all_defective": True}
SHOWN = ("show_all", "show_defects", "show_good", "show_wrong")
COLOURS = {"learnt": "#9aa5ad", "False": "#2a9d5c", "True": "#d1495b", "None": "#0b6e99"}


def show(workspace: Workspace, say: Say) -> None:
    """Show the field to drop test pictures, a chart of all scores, and a heat map of each picture."""
    with st.expander(say("test_step"), expanded=not workspace.results):
        drop(workspace, say)
    if not workspace.results:
        return
    thresholds = steps.levels(workspace)
    st.subheader(say("results_step"), anchor=False)
    scores(workspace, say, thresholds)
    left, right = st.columns([3, 1])
    chosen = left.segmented_control(say("show"), SHOWN, default=SHOWN[0], format_func=say, key="shown") or SHOWN[0]
    ordered = sorted(workspace.results, key=lambda result: -result.prediction.score)
    found = [result for result in ordered if belongs(result, chosen, thresholds)]
    if not found:
        st.caption(say("none"))
    pages = -(-len(found) // PER_PAGE)
    page = 0
    if pages > 1:
        page = right.segmented_control(
            say("page"), range(pages), default=0, format_func=lambda n: str(n + 1), key="page"
        )
        page = page if page in range(pages) else 0
    here = found[page * PER_PAGE : (page + 1) * PER_PAGE]
    for start in range(0, len(here), 2):
        for column, result in zip(st.columns(2), here[start : start + 2]):
            with column.container(border=True):
                card(workspace, say, result, thresholds)


def drop(workspace: Workspace, say: Say) -> None:
    """Show the field to drop test pictures, which are scored at once."""
    known = st.segmented_control(say("test_known"), list(KNOWN), default="unknown", format_func=say, key="known")
    truth = KNOWN.get(known or "unknown")

    def keep(workspace: Workspace, files: list[tuple[str, bytes]]) -> None:
        taken = workspace.take(files, MOST_TESTED - len(workspace.results))
        if taken:
            workspace.start("scoring", lambda log: steps.score(workspace, taken, log, truth=truth))

    receive(workspace, say("test_drop"), "tested", keep)
    if workspace.results:
        st.button(say("test_clear"), on_click=steps.forget_results, args=(workspace,), disabled=workspace.busy)


def belongs(result: Result, chosen: str, thresholds: Calibration) -> bool:
    """Whether the result is among those that the visitor wants to see."""
    called = thresholds.is_defect(result.prediction.score)
    wrong = result.truth is not None and result.truth != called
    return {"show_all": True, "show_defects": called, "show_good": not called, "show_wrong": wrong}[chosen]


def card(workspace: Workspace, say: Say, result: Result, thresholds: Calibration) -> None:
    """Show a picture beside its heat map, with score, p-value, verdict, and a button to mark the verdict as wrong."""
    value = result.prediction.score
    called = thresholds.is_defect(value)
    verdict, name = ("red", "DEFECT") if called else ("green", "GOOD")
    st.markdown(f":{verdict}-badge[{say(name)}] {escaped(result.picture.name)}")
    st.image(steps.heat_map(workspace, result, thresholds), width="stretch")
    words = [say("score", score=value), say("p_value", p=thresholds.p_value(value))]
    if result.truth is not None:
        words.append(say(f"truth_{result.truth}"))
    told, act = st.columns([5, 3], vertical_alignment="center")
    told.caption(" · ".join(words))
    key = f"mark_{result.picture.path.name}_{result.picture.name}"
    if result.marked is not None:
        act.button(say("undo"), key=key, on_click=steps.unmark, args=(workspace, result), disabled=workspace.busy)
    else:
        act.button(say("wrong"), key=key, on_click=steps.mark_wrong, args=(workspace, result), disabled=workspace.busy)


def scores(workspace: Workspace, say: Say, thresholds: Calibration) -> None:
    """Show a chart of all scores, one line for each kind of picture, with the threshold."""
    rows = [{"kind": say("chart_learnt"), "score": value} for value in thresholds.scores]
    rows += [{"kind": say(f"chart_{r.truth}"), "score": r.prediction.score} for r in workspace.results]
    kinds = [say(f"chart_{kind}") for kind in COLOURS]
    present = [kind for kind in kinds if any(row["kind"] == kind for row in rows)]
    colour = alt.Scale(domain=kinds, range=list(COLOURS.values()))
    axis = alt.X("score:Q", title=say("chart_score"), scale=alt.Scale(zero=False, nice=True))
    points = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(filled=True, size=70, opacity=0.6)
        .encode(axis, alt.Y("kind:N", title=None, sort=present), alt.Color("kind:N", scale=colour, legend=None))
    )
    line = alt.Data(values=[{"score": thresholds.image_threshold}])
    rule = alt.Chart(line).mark_rule(strokeWidth=2, strokeDash=[5, 3]).encode(x="score:Q")
    st.altair_chart((points + rule).properties(height=40 * len(present) + 50), width="stretch")
