"""The first step on the page: choosing pictures to learn from, or an existing model."""

from __future__ import annotations

from functools import partial
from typing import Callable

import streamlit as st

from app import settings, steps
from app.texts import Say
from app.uploads import MOST_TRAINING
from app.workspace import Workspace
from datasets.sample.write import CATEGORIES
from deploy.command_line.parser import Arguments
from deploy.pictures.listing import SUFFIXES
from options import runtime

LEAST = 3
"""Smallest number of good pictures; fitting itself needs two, but thresholds from so few mean little."""
PRESETS = ("balanced", "fast")
KINDS = [suffix[1:] for suffix in SUFFIXES]


def show(workspace: Workspace, say: Say, offered: Arguments) -> None:
    """Show the choice of a model."""
    st.subheader(say("model_step"), anchor=False)
    categories, models = settings.categories(offered), settings.models(offered)
    sources = ["own", "sample"] + ["category"] * bool(categories) + ["file"] * bool(models)
    views = {
        "own": own,
        "sample": sample,
        "category": partial(category, found=categories),
        "file": partial(model_file, found=models),
    }
    # no tabs, because they switch back to the first one whenever something above them appears or disappears
    source = st.segmented_control(
        say("source"), sources, default="own", format_func=say, key="source", label_visibility="collapsed"
    )
    views[source if source in sources else "own"](workspace, say, offered)


def own(workspace: Workspace, say: Say, offered: Arguments) -> None:
    """Show the upload of the visitor's own good pictures."""
    receive(workspace, say("own_drop", least=LEAST), "training", keep_training)
    count = len(workspace.training)
    if count:
        told, clear = st.columns([4, 1], vertical_alignment="center")
        short = say("own_short", missing=LEAST - count) if count < LEAST else ""
        told.markdown(f"**{say('own_count', count=count)}** {short}")
        clear.button(say("own_clear"), on_click=clear_training, args=(workspace,), disabled=workspace.busy)
    chosen = how(say, offered, "own")
    ready = count >= LEAST and not workspace.busy
    if st.button(say("train"), type="primary", key="train_own", disabled=not ready):
        paths = [picture.path for picture in workspace.training]
        workspace.start("training", lambda log: steps.fit(workspace, say("own"), paths, chosen, log))
        st.rerun()


def sample(workspace: Workspace, say: Say, offered: Arguments) -> None:
    """Show the choice of a product of the sample data."""
    name = st.segmented_control(
        say("sample_pick"), list(CATEGORIES), default=next(iter(CATEGORIES)), format_func=say, key="sample"
    )
    st.caption(say("sample_told", train=steps.SAMPLE["train"]))
    chosen = how(say, offered, "sample")
    if st.button(say("train"), type="primary", key="train_sample", disabled=workspace.busy or name not in CATEGORIES):
        workspace.start(
            "training", lambda log: steps.fit_category(workspace, steps.sample(workspace, name, log), chosen, log)
        )
        st.rerun()


def category(workspace: Workspace, say: Say, offered: Arguments, found: dict) -> None:
    """Show the choice of a category of --data_path."""
    name = st.selectbox(say("category_pick"), list(found), key="category")
    chosen = how(say, offered, "category")
    if st.button(say("train"), type="primary", key="train_category", disabled=workspace.busy or name not in found):
        workspace.start("training", lambda log: steps.fit_category(workspace, found[name], chosen, log))
        st.rerun()


def model_file(workspace: Workspace, say: Say, offered: Arguments, found: dict) -> None:
    """Show the choice of a model below --save_path."""
    name = st.selectbox(say("file_pick"), list(found), key="file")
    if st.button(say("use"), type="primary", key="use_file", disabled=workspace.busy or name not in found):
        run = runtime(offered)
        workspace.start("loading", lambda log: steps.load(workspace, name, found[name], run, log))
        st.rerun()


def how(say: Say, offered: Arguments, key: str) -> steps.Settings:
    """Show the choice of preset and backbone; return the settings."""
    left, right = st.columns(2)
    kind = left.segmented_control(say("preset"), PRESETS, default=PRESETS[0], format_func=say, key=f"preset_{key}")
    archs = ["compact"] + ["resnet18"] * (offered.weights is not None)
    arch = archs[0]
    if len(archs) > 1:
        arch = right.segmented_control(say("arch"), archs, default=archs[0], key=f"arch_{key}") or arch
    weights = offered.weights if arch == "resnet18" else None
    return steps.Settings(kind or PRESETS[0], arch, weights, runtime(offered))


def receive(workspace: Workspace, label: str, key: str, keep: Callable[[Workspace, list], None]) -> None:
    """Show a field to drop pictures; dropped pictures are passed to `keep` at once, and the field is emptied."""
    turn = st.session_state.setdefault(f"turn_{key}", 0)
    dropped = st.file_uploader(label, KINDS, accept_multiple_files=True, key=f"{key}{turn}", disabled=workspace.busy)
    if dropped:
        keep(workspace, [(one.name, one.getvalue()) for one in dropped])
        st.session_state[f"turn_{key}"] = turn + 1
        st.rerun()


def keep_training(workspace: Workspace, files: list[tuple[str, bytes]]) -> None:
    """Keep pictures to learn from."""
    workspace.training += workspace.take(files, MOST_TRAINING - len(workspace.training))


def clear_training(workspace: Workspace) -> None:
    """Delete the pictures to learn from."""
    workspace.remove(workspace.training)
    workspace.training = []
