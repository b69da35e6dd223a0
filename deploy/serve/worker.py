"""The process of one model or of a folder of models: it loads the models that are asked for, and answers.

It is a process of its own for two reasons. Running a program holds Python's lock, which would block a server in the
same process. And if a file crashes a decoder, only this process ends, and it is started again.
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
    """Main function of the process: send descriptions of the models, then answer until the server closes the channel.

    The first message sent is (True, descriptions by name, load), or (False, error, None). A single model is loaded at
    once, and `load` is the record of its loading; with several models `load` is None.

    Then the process receives (name of a model, list of bools: is a heat map wanted), followed by as many file contents.
    It sends back (list of answers, record of the model's loading, or None if the model was loaded before). This repeats
    until the channel ends.
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
    """Return a line about a model, without loading it."""
    header, shapes = read_outline(job.stats, "stats")
    return header_text(header, shapes, *recorded(header))


def answers(shelf: Shelf, name: str, pictures: list[Encoded], wanted: list[bool]) -> tuple[list[Answer], Load | None]:
    """Return the answers of the model of that name, and the record of its loading, or None if it was loaded before."""
    try:
        scorer, load = shelf.take(name)
    except Exception as error:
        if isinstance(error, UserError):
            report(f"error: model {name}: {error}")
        else:
            traceback.print_exc()
        return [Answer.of(500, {"detail": UNLOADED})] * len(pictures), None
    return scorer.answers(pictures, wanted), load
