"""The page: streamlit runs this file from top to bottom whenever a visitor does something."""

from __future__ import annotations

import html

import streamlit as st
from streamlit import runtime as streamlit_runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import model_view, results_view, settings, side_view
from app.texts import LANGUAGES, Say
from app.workspace import Workspace, Workspaces, owner_of

KEY = "w"  # in the page's address


@st.cache_resource
def workspaces() -> Workspaces:
    """Those of all visitors, for as long as the server runs."""

    def is_active(session: str) -> bool:
        return streamlit_runtime.exists() and streamlit_runtime.get_instance().is_active_session(session)

    return Workspaces(is_active)


def own_workspace() -> Workspace | None:
    """The visitor's workspace: that of this session, else the one that the address names if it is this browser's."""
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
    """The whole page."""
    st.set_page_config("PaddlePatch", page_icon=":material/troubleshoot:", layout="wide")
    workspace = own_workspace()
    if workspace is None:
        st.error(Say(default_language())("full"))
        return
    workspace.language = workspace.language or default_language()
    say = Say(workspace.language)
    title, language = st.columns([5, 1], vertical_alignment="center")
    title.title(say("title"), anchor=False)
    title.caption(say("subtitle"))
    language.segmented_control(
        say("language"),
        list(LANGUAGES),
        format_func=LANGUAGES.get,
        default=workspace.language,
        key="language",
        on_change=lambda: setattr(workspace, "language", st.session_state["language"] or workspace.language),
        label_visibility="collapsed",
    )
    for key, told in workspace.notes:
        st.warning(say(key, **{name: escaped(value) for name, value in told.items()}))
    workspace.notes.clear()
    offered = settings.of_page()
    if workspace.busy:
        progress(workspace, say)
    elif workspace.job is not None and workspace.job.error:
        cause = workspace.job.error
        st.error(say("bug") if cause == "?" else say("failed", cause=escaped(workspace.readable(cause))))
    if workspace.model is None:
        model_view.show(workspace, say, offered)
    else:
        results_view.show(workspace, say)
    with st.sidebar:
        if workspace.model is not None:
            side_view.show(workspace, say)
        side_view.farewell(workspace, say, workspaces().close)


@st.fragment(run_every=0.7)
def progress(workspace: Workspace, say: Say) -> None:
    """What the work that is going on has said so far; when it ends, the page is shown anew."""
    job = workspace.job
    if not workspace.busy:
        st.rerun()
    what = say("waiting" if job.begun is None else job.what)
    with st.status(say("seconds", what=what, seconds=round(job.seconds)), expanded=True):
        st.text("\n".join(workspace.readable(line) for line in job.lines[-6:]) or "...")


def default_language() -> str:
    """Chinese for browsers that ask for it, else English."""
    return "zh" if (st.context.locale or "").lower().startswith("zh") else "en"


def escaped(value: object) -> object:
    """A visitor's words, so that they are shown as they are and not read as markup."""
    if not isinstance(value, str):
        return value
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-.!|~:$<>" else letter for letter in html.unescape(value))


main()
