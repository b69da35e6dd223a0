"""The sidebar: model, threshold, feedback and downloads."""

from __future__ import annotations

from typing import Callable

import streamlit as st

from app import downloads, steps
from app.texts import Say, escaped
from app.workspace import KEPT, Workspace
from deploy.conformal import least_rate
from deploy.errors import UserError
from evaluation.decisions import Goal
from models import model_text

RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
GOALS = ("f1", "recall=0.95", "precision=0.9", "miss_cost=10")


def show(workspace: Workspace, say: Say) -> None:
    """Show the sidebar for a visitor with a model."""
    count = workspace.model.calibration.pictures
    st.header(escaped(workspace.model_name), anchor=False)
    st.caption(say("learnt_from", count=count), help=", ".join(map(say.line, model_text(workspace.model).split(", "))))
    if st.button(say("again"), disabled=workspace.busy):
        steps.forget_results(workspace)
        workspace.model = None
        st.rerun()
    threshold(workspace, say)
    if workspace.results and not workspace.busy:
        feedback(workspace, say)
    if not workspace.busy:
        offer(workspace, say)


def threshold(workspace: Workspace, say: Say) -> None:
    """Show the choice of the false alarm rate, and false alarms and misses among labelled pictures."""
    own = workspace.model.calibration
    if own.labelled is not None:
        st.toggle(
            say("own_threshold"),
            value=workspace.rate is None,
            key="own_threshold",
            on_change=lambda: setattr(workspace, "rate", None if st.session_state["own_threshold"] else 0.05),
        )
    if workspace.rate is not None or own.labelled is None:
        at = min(RATES, key=lambda rate: abs(rate - (workspace.rate or 0.05)))
        st.session_state["rate"] = at
        st.select_slider(
            say("rate"),
            RATES,
            format_func=lambda rate: f"{rate:.1%}".replace(".0%", "%"),
            key="rate",
            help=say("rate_help"),
            on_change=lambda: chosen(workspace, st.session_state["rate"]),
        )
    found = steps.levels(workspace)
    least = least_rate(found.scores)
    decided = steps.decisions(steps.labelled_results(workspace), found.image_threshold)
    lines = [(say("threshold"), f"{found.image_threshold:.3f}")]
    if decided.good:
        lines.append((say("false_alarms"), say("of", count=decided.false_alarms, total=decided.good)))
    if decided.defective:
        lines.append((say("misses"), say("of", count=decided.misses, total=decided.defective)))
    for what, value in lines:
        st.markdown(f"{what} :blue[**{value}**]")
    if found.false_alarm is not None and found.false_alarm < least:
        st.caption(say("few", count=found.pictures, least=least))


def chosen(workspace: Workspace, rate: float) -> None:
    """Set the rate after the visitor moved the slider; results for the earlier threshold are not offered any more."""
    workspace.rate = rate
    workspace.outdate()


def feedback(workspace: Workspace, say: Say) -> None:
    """Show what can be done with labelled pictures: set the threshold, and learn from good pictures marked as wrong."""
    st.subheader(say("feedback_step"), anchor=False)
    known, new = steps.labelled_results(workspace), steps.marked_good(workspace)
    bad = sum(bool(result.truth) for result in known)
    marked = sum(result.marked is not None for result in workspace.results)
    st.caption(say("feedback_told", good=len(known) - bad, bad=bad, marked=marked))
    goal = st.selectbox(say("goal"), GOALS, format_func=say, key=f"goal_{workspace.language}")
    if st.button(say("calibrate"), disabled=not 0 < bad < len(known) or goal not in GOALS):
        try:
            steps.calibrate(workspace, Goal.parse(goal))
            workspace.notes.append(("calibrated", {"good": len(known) - bad, "bad": bad}))
        except UserError as error:
            workspace.notes.append(("refused", {"cause": str(error)}))
        st.session_state.pop("own_threshold", None)
        st.rerun()
    if st.button(say("learn", count=len(new)), disabled=not new):
        workspace.start("learning", lambda log: steps.update_model(workspace, log))
        st.rerun()


def offer(workspace: Workspace, say: Say) -> None:
    """Show the downloads, which are made on request."""
    st.subheader(say("download_step"), anchor=False)
    for kind, make in downloads.DOWNLOADS.items():
        path, lacks = workspace.files.get(kind), kind in downloads.NEEDED and not downloads.NEEDED[kind](workspace)
        if path is not None and path.is_file():
            st.download_button(
                say("save", what=say(kind)),
                path.read_bytes(),
                downloads.file_name(workspace, kind),
                "application/zip",
                key=f"save_{kind}",
                type="primary",
                on_click="ignore",
            )
        elif st.button(say(kind), key=f"make_{kind}", disabled=lacks):
            workspace.start("making", lambda log, make=make: make(workspace, log))
            st.rerun()


def farewell(workspace: Workspace, say: Say, close: Callable[[Workspace], None]) -> None:
    """Show how long a visitor's data are kept, and the button that deletes them now."""
    st.divider()
    st.caption(say("privacy", minutes=round(KEPT / 60)))
    if st.button(say("forget"), key="forget"):
        close(workspace)
        st.session_state.clear()
        st.query_params.clear()
        st.rerun()
