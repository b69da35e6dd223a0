"""The HTTP server: the time that clients wait for an answer."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from deploy.predictor import Predictor
from deploy.storage.files import scratch_folder
from models.export.export import export

from ..report import Stage
from ..subject import BATCH, Subject

CLIENTS = (1, 8)
NEEDED = ("fastapi", "uvicorn", "prometheus_client")
ROOT = Path(__file__).parents[2]


def run(subject: Subject) -> Stage:
    """Measure with PatchCore on the test pictures of one category; every client sends requests in a loop."""
    pictures = [picture.path for picture in subject.category.test_pictures()]
    stage = Stage("serve", f"infer.py --serve on {len(pictures)} test pictures, a bank of 10 %", "answer")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        stage.skip("server", f"{missing[0]} is not installed")
        return stage
    model = subject.build("patchcore")
    model.fit(subject.category.train_pictures(), BATCH)
    with scratch_folder() as folder:
        stats = export(model, folder / "model").files["stats"]
        predictor = Predictor.load(stats, runtime=subject.runtime)
        scores = [prediction.score for prediction in predictor.predict(pictures)]
        bodies = [Path(picture).read_bytes() for picture in pictures]
        with server(stats, subject) as port:
            ask(port, bodies, 0)  # warms up, not counted
            for clients in CLIENTS:
                begin = time.perf_counter()
                with ThreadPoolExecutor(clients) as pool:
                    turns = [pool.submit(ask, port, bodies, n) for n in range(max(clients, subject.few))]
                    found = [answer for turn in turns for answer in turn.result()]
                whole = time.perf_counter() - begin
                seconds = [waited for _, waited, _ in found]
                off = max(abs(score - scores[place]) / scores[place] for place, _, score in found)
                name = f"{clients} client{'s' * (clients > 1)}"
                stage.add({name: seconds})
                stage.figures.append(
                    {
                        "clients": clients,
                        "answers": len(found),
                        "p50, ms": 1e3 * float(np.percentile(seconds, 50)),
                        "p99, ms": 1e3 * float(np.percentile(seconds, 99)),
                        "pictures / s": len(found) / whole,
                        "scores: largest relative error": off,
                    }
                )
    stage.notes.append("client, server and model share the machine; the error is against infer.py, a picture at a time")
    return stage


def ask(port: int, bodies: Sequence[bytes], first: int) -> list[tuple[int, float, float]]:
    """Send every picture on one connection, beginning with `first`; return places, seconds and scores."""
    client, answers = http.client.HTTPConnection("127.0.0.1", port), []
    for step in range(len(bodies)):
        place, begin = (first + step) % len(bodies), time.perf_counter()
        client.request("POST", "/models/measured/score", bodies[place])
        values = json.loads(client.getresponse().read())
        answers.append((place, time.perf_counter() - begin, values["score"]))
    client.close()
    return answers


@contextmanager
def server(stats: Path, subject: Subject) -> Iterator[int]:
    """Context manager that runs a server in a process of its own, and yields its port."""
    words = ["--serve", "0", "--stats", f"measured={stats}", "--cpu_threads", str(subject.threads)]
    words.append(f"--enable_mkldnn={subject.runtime.onednn}")
    process = subprocess.Popen([sys.executable, "infer.py", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if line.startswith("serving "))
        yield int(line.partition("http://127.0.0.1:")[2].partition(";")[0])
    finally:
        process.terminate()
        process.communicate()
