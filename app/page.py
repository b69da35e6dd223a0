"""The page. Streamlit runs this file from top to bottom whenever a visitor does something."""

from __future__ import annotations

import io

import cv2
import numpy as np
import streamlit as st
from streamlit import runtime as streamlit_runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import model_view, results_view, settings, side_view
from app.texts import LANGUAGES, Say, escaped
from app.uploads import MOST_MEGABYTES
from app.workspace import Workspace, Workspaces, owner_of
from deploy.pictures.decode import encode_png

KEY = "w"  # name of the parameter with the workspace's key in the page's address
STYLE = """
.stMainBlockContainer { padding-top: 2.5rem; max-width: 84rem; }
[data-testid="stSidebarHeader"] { margin-bottom: 0; height: 2rem; }
"""

# replaces streamlit's own texts where pictures are dropped, which exist in English only
UPLOADER = """
[data-testid="stFileUploaderDropzone"] button p { font-size: 0; }
[data-testid="stFileUploaderDropzoneInstructions"] span { font-size: 0; }
[data-testid="stFileUploaderDropzone"] button p::after { content: "%(upload)s"; font-size: 1rem; }
[data-testid="stFileUploaderDropzoneInstructions"] span::after { content: "%(limit)s"; font-size: .875rem; }
"""


@st.cache_resource
def workspaces() -> Workspaces:
    """Return the workspaces of all visitors, which are the same object as long as the server runs."""

    def is_active(session: str) -> bool:
        return streamlit_runtime.exists() and streamlit_runtime.get_instance().is_active_session(session)

    return Workspaces(is_active)


def own_workspace() -> Workspace | None:
    """Return the visitor's workspace; None if there are too many visitors.

    It is that of this session; else the one of the key in the address, if it belongs to this browser; else a new one.
    """
    held: Workspace | None = st.session_state.get("workspace")
    if held is None or not held.folder.is_dir():
        held = workspaces().open(st.query_params.get(KEY), owner_of(st.context.cookies.get("_streamlit_xsrf")))
        if held is None:
            return None
        st.session_state["workspace"] = held
        st.query_params[KEY] = held.key
    held.sessions.add(get_script_run_ctx().session_id)
    return held


def main() -> None:
    """Show the whole page."""
    st.set_page_config("PaddlePatch", page_icon=icon(), layout="wide")
    workspace = own_workspace()
    if workspace is None:
        st.error(Say(default_language())("full"))
        return
    workspace.language = workspace.language or default_language()
    say = Say(workspace.language)
    title, language = st.columns([3, 1], vertical_alignment="center")
    words = {"upload": say("upload"), "limit": say("upload_limit", most=MOST_MEGABYTES)}
    st.html(f"<style>{STYLE}{UPLOADER % words if workspace.language != 'en' else ''}</style>")
    title.header(say("title"), anchor=False)
    title.caption(say("subtitle"))
    language.container(horizontal=True, horizontal_alignment="right").segmented_control(
        say("language"),
        list(LANGUAGES),
        format_func=LANGUAGES.get,
        default=workspace.language,
        key="language",
        on_change=lambda: setattr(workspace, "language", st.session_state["language"] or workspace.language),
        label_visibility="collapsed",
    )
    with st.container():  # a single container, so that what is below it keeps its place, however much is shown
        news(workspace, say)
    if workspace.model is not None:
        results_view.show(workspace, say)
        with st.sidebar:
            side_view.show(workspace, say)
    elif not workspace.busy:
        model_view.show(workspace, say, settings.of_page())
    with st.sidebar if workspace.model is not None else st.container():
        side_view.farewell(workspace, say, workspaces().close)


def news(workspace: Workspace, say: Say) -> None:
    """Show what was refused or done, the progress of a running job, or its error."""
    for key, told in workspace.notes:
        (st.success if key == "calibrated" else st.warning)(
            say(key, **{name: escaped(say.line(value) if name == "cause" else value) for name, value in told.items()})
        )
    if not workspace.busy:  # what was refused of a drop is still to be read when the others have been scored
        workspace.notes.clear()
    if workspace.busy:
        progress(workspace, say)
    elif workspace.job is not None and workspace.job.error:
        cause = workspace.job.error
        st.error(say("bug") if cause == "?" else say("failed", cause=escaped(say.line(workspace.readable(cause)))))


@st.fragment(run_every=0.7)
def progress(workspace: Workspace, say: Say) -> None:
    """Show the progress lines of the running job; when it ends, the whole page is run again."""
    job = workspace.job
    if not workspace.busy:
        st.rerun()
    what = say("waiting" if job.begun is None else job.what)
    with st.status(say("seconds", what=what, seconds=round(job.seconds)), expanded=True):
        st.text("\n".join(say.line(workspace.readable(line)) for line in job.lines[-6:]) or "...")


def icon() -> io.BytesIO:
    """Draw the page's icon, a hot spot, as PNG; streamlit would load its named icons from another server."""
    away = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j])
    hot = cv2.applyColorMap((255 * np.clip(1 - away, 0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    return io.BytesIO(encode_png(np.ascontiguousarray(hot[..., ::-1])))


def default_language() -> str:
    """Return Chinese for browsers whose language is Chinese, else English."""
    return "zh" if (st.context.locale or "").lower().startswith("zh") else "en"


main()
