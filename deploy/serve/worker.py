"""The process of one model or of a folder of them: it loads what is asked for, and answers.

It is a process of its own because running a program holds Python's lock, so that a server in the same one would stand
still meanwhile; and because a file that a decoder dies of then ends this process alone, which is started again.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection

from ..errors import UserError, report
from ..pictures.decode import Encoded
from ..results.description import header_text, recorded
from ..storage.tensors import read_outline
from .scorer import NAME, Answer
from .settings import Job
from .shelf import Load, Shelf

UNLOADED = "this model cannot be loaded; the server's log says why"


def work(channel: Connection, jobs: Mapping[str, Job], most: int) -> None:
    """Say what the models are, or what is wrong with one; then answer until the server ends the channel.

    The first message is whether all is well, and what each model is, or the error; then the loading of the model, if
    there is but one, which is loaded at once, else None. Then comes a model's name with a list of bools, whether a heat
    map is wanted, and as many file contents, and the list of their answers goes back, with the loading, if the model
    was not loaded; and so on.
    """
    shelf = Shelf(jobs, most)
    try:
        try:
            about = {name: described(job) for name, job in jobs.items()}
            loads = [shelf.take(name)[1] for name in jobs] if len(jobs) == 1 else [None]
        except UserError as error:
            channel.send((False, str(error), None))
            return
        channel.send((True, about, loads[0]))
        while True:
            name, wanted = channel.recv()
            channel.send(answers(shelf, name, [Encoded(NAME, channel.recv_bytes()) for _ in wanted], wanted))
    except (EOFError, OSError):  # the server is gone
        return


def described(job: Job) -> str:
    """A line about a model that need not be loaded."""
    header, shapes = read_outline(job.stats, "stats")
    return header_text(header, shapes, *recorded(header))


def answers(shelf: Shelf, name: str, pictures: list[Encoded], wanted: list[bool]) -> tuple[list[Answer], Load | None]:
    """The answers of the model of that name, and its loading, if it was not loaded."""
    try:
        scorer, load = shelf.take(name)
    except Exception as error:
        if isinstance(error, UserError):
            report(f"error: model {name}: {error}")
        else:
            traceback.print_exc()
        return [Answer.of(500, {"detail": UNLOADED})] * len(pictures), None
    return scorer.answers(pictures, wanted), load
