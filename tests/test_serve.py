"""The HTTP server: answers are those of infer.py, and nobody's bad request costs the others theirs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, refused, run
from warm_python import WarmPython

from deploy.command_line.parser import Parser
from deploy.errors import UserError
from deploy.infer import NO_FILES
from deploy.pictures.decode import encode_png
from deploy.results.heatmap import TITLE
from deploy.serve.settings import named, parse_address

pytestmark = pytest.mark.once
CLIENTS, SLOW, MOST_WAITING = 8, 1000, 8
FILES, RECEIVE = 600, 4.0
TOKEN = "a token of the tests"
LEVEL = ["--threshold=-0.2", "--min_area", "300"]  # so low that there are regions, and not all of them told
START = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
from deploy.serve import connection
connection.RECEIVE = {RECEIVE}
from deploy.infer import console
console()
"""
"""A server that has fewer open files than there are slow clients, and less patience, which saves the tests' time."""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


class Server:
    """infer.py --serve in a process of its own, with a model and a folder of three, of which two are loaded."""

    def __init__(self, warm: WarmPython, export: Path, folder: Path) -> None:
        for name in ("other", "third", "fourth"):
            shutil.copytree(export, folder / name / "export")
        words = ["--serve", "0", "--stats", f"washer={export / 'stats'}", folder, "--max_waiting", MOST_WAITING]
        words += ["--max_models", 2]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = warm.start(["-c", START, *words, "--max_body", 8, *LEVEL], ROOT, [0, *[self._said.fileno()] * 2])
        deadline = time.monotonic() + 120
        while not (found := re.search(r"serving .* at http://127\.0\.0\.1:(\d+);", self.said())):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        self.port = int(found[1])

    def said(self) -> str:
        return os.pread(self._said.fileno(), 1 << 20, 0).decode()

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        client: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Reply:
        client = client or self.client()
        client.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
        response = client.getresponse()
        return Reply(response.status, dict(response.headers), response.read())

    def score(self, body: object, model: str = "washer", **more: object) -> Reply:
        return self.ask("POST", f"/models/{model}/score", body, **more)

    def figures(self) -> dict[str, float]:
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def memory(self) -> float:
        """Bytes of the server and its models."""
        return sum(value for name, value in self.figures().items() if re.search("resident|model_memory", name))

    def raw(self, *parts: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        for part in parts:
            connection.sendall(part)
        return connection

    def models(self) -> list[int]:
        """The processes of the models, in the order of their starts."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended meanwhile
                parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid and "spawn_main" in stat.with_name("cmdline").read_text():
                    found.append(int(stat.parent.name))
        return sorted(found)


@pytest.fixture(scope="module")
def server(trained: SimpleNamespace, warm: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADDLEPATCH_TOKEN", TOKEN)
        server = Server(warm, trained.export, tmp_path_factory.mktemp("exports"))
    yield server
    with contextlib.suppress(ProcessLookupError):  # where all tests passed, it has ended
        server.process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def pictures(trained: SimpleNamespace) -> list[Path]:
    return sorted((trained.data / "washer/test").rglob("*.png"))


@pytest.fixture(scope="module")
def expected(
    trained: SimpleNamespace, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """What infer.py says of the pictures: `.scores`, `.regions` and `.heat_maps` by path."""
    out = tmp_path_factory.mktemp("infer")
    words = ["--stats", trained.export / "stats", "--input_file", trained.data / "washer/test", "--save_path", out]
    done(run("infer.py", *words, "--jsonl", "--save_regions", *LEVEL))
    rows = [json.loads(line) for line in (out / "infer.jsonl").read_text().splitlines()]
    regions: dict[str, list] = {row["path"]: [] for row in rows}
    for line in (out / "infer_regions.jsonl").read_text().splitlines():
        region = json.loads(line)
        regions[region.pop("path")].append(region)
    names = ("score", "scaled", "defective", "p_value", "p_tail")
    scores = {row["path"]: {name: row[name] for name in names} for row in rows}
    maps = {str(path): out / "heatmaps" / path.relative_to(trained.data / "washer/test") for path in pictures}
    return SimpleNamespace(scores=scores, regions=regions, heat_maps=maps)


def same(reply: Reply, expected: SimpleNamespace, path: Path) -> None:
    """The reply is a score, and infer.py's: to the last bits, which depend on who else is in a batch."""
    assert reply.status == 200, reply
    values, scores = reply.json, expected.scores[str(path)]
    for name, known in scores.items():
        assert values[name] == (pytest.approx(known, rel=1e-5) if isinstance(known, float) else known), (path, name)
    assert len(values["regions"]) == len(expected.regions[str(path)])
    for region, known in zip(values["regions"], expected.regions[str(path)]):
        assert region == pytest.approx(known, rel=1e-4)


def test_eight_clients_get_infers_answers(server: Server, pictures: list[Path], expected: SimpleNamespace) -> None:
    before = server.figures()

    def client(number: int) -> None:
        connection = server.client()
        for place in range(len(pictures)):
            path = pictures[(place + number) % len(pictures)]
            model = ("washer", "other")[(place + number) % 2]
            same(server.score(path.read_bytes(), model, client=connection), expected, path)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    figures = server.figures()
    batches, scored = (
        sum(
            figures[f'{name}{{model="{model}"}}'] - before[f'{name}{{model="{model}"}}']
            for model in ("washer", "other")
        )
        for name in ("paddlepatch_batch_pictures_count", "paddlepatch_batch_pictures_sum")
    )
    assert scored == CLIENTS * len(pictures) and batches < 0.8 * scored, "what waits runs together"
    assert figures["paddlepatch_held_bytes"] == 0 == figures['paddlepatch_waiting_pictures{model="washer"}']


def test_one_at_a_time_every_bit_is_infers(server: Server, pictures: list[Path], expected: SimpleNamespace) -> None:
    called, before = 'paddlepatch_defective_total{model="washer"}', server.figures()
    for path in pictures:
        reply = server.score(path.read_bytes()).json
        assert {name: reply[name] for name in expected.scores[str(path)]} == expected.scores[str(path)]
        assert reply["regions"] == expected.regions[str(path)] and "heat_map" not in reply
    defective = sum(expected.scores[str(path)]["defective"] for path in pictures)
    assert server.figures()[called] - before.get(called, 0) == defective > 0
    path = next(path for path in pictures if expected.regions[str(path)])
    reply = server.ask("POST", "/models/washer/score?heat_map=true", path.read_bytes()).json
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(reply["heat_map"]), np.uint8), cv2.IMREAD_COLOR)
    # above is the name, which the server does not know
    assert (drawn[2 * TITLE :] == cv2.imread(str(expected.heat_maps[str(path)]))[2 * TITLE :]).all()


def test_it_says_what_it_is(server: Server) -> None:
    assert server.ask("GET", "/health").json == {"status": "ok"}
    models = server.ask("GET", "/models").json
    assert [model["name"] for model in models] == ["washer", "fourth", "other", "third"]
    assert all("patchcore on compact" in model["about"] and "bank of" in model["about"] for model in models)
    described = server.ask("GET", "/openapi.json").json
    assert set(described["paths"]) == {"/models/{name}/score", "/models", "/health", "/metrics"}
    answer = described["components"]["schemas"]["Score"]["properties"]
    assert set(answer) == {
        "score",
        "scaled",
        "defective",
        "p_value",
        "p_tail",
        "height",
        "width",
        "regions",
        "heat_map",
    }
    assert b"/openapi.json" in server.ask("GET", "/docs").body


def test_without_the_token_nothing_is_told(server: Server, pictures: list[Path]) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + TOKEN}):
        for method, path in (("POST", "/models/washer/score"), ("GET", "/models"), ("GET", "/metrics")):
            client = server.client()
            client.request(method, path, pictures[0].read_bytes() if method == "POST" else None, headers)
            assert client.getresponse().status == 401
    client = server.client()
    client.request("GET", "/health")
    assert client.getresponse().status == 200


def test_of_a_folder_only_some_models_are_loaded(
    server: Server, pictures: list[Path], expected: SimpleNamespace
) -> None:
    data, names = pictures[0].read_bytes(), ("other", "third", "fourth", "third", "other")
    same(server.score(data, "other"), expected, pictures[0])
    before = server.figures()
    for name in names:
        same(server.score(data, name), expected, pictures[0])
    figures = server.figures()
    told = {
        name: [
            int(figures[key] - before.get(key, 0))
            for key in (f'paddlepatch_{what}_total{{model="{name}"}}' for what in ("loads", "evictions"))
        ]
        for name in ("other", "third", "fourth")
    }
    assert told == {"other": [1, 1], "third": [1, 0], "fourth": [1, 1]}
    [folder] = (key for key in figures if re.match("paddlepatch_loaded_models.*exports", key))
    assert figures[folder] == 2 and figures['paddlepatch_loads_total{model="washer"}'] == 1


def bomb() -> bytes:
    """A PNG whose header promises more pixels than are allowed."""
    data = bytearray(encode_png(np.zeros((4, 4, 3), np.uint8)))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    return bytes(data)


def test_others_are_answered_whatever_a_client_does(
    server: Server, pictures: list[Path], expected: SimpleNamespace
) -> None:
    """1,000 slow connections, 50 MB, broken pictures, clients that hang up: more than open files and memory allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < SLOW + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, SLOW + 200) if hard > 0 else SLOW + 200, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
    count = min(SLOW, allowed)
    data, before = pictures[0].read_bytes(), server.memory()
    head = b"POST /models/washer/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n"
    starts = (b"", head[:20], head, head + length % len(data), head + length % len(data) + data[: len(data) // 2])

    def usual() -> float:
        begin = time.perf_counter()
        same(server.score(data), expected, pictures[0])
        return time.perf_counter() - begin

    times, slow = [], []
    for number in range(count):
        slow.append(server.raw(starts[number % len(starts)]))
        if number % 100 == 99:
            times.append(usual())

    large = bytes(50_000_000)
    assert server.score(large).status == 413
    blocks = (large[:1_000_000] for _ in range(50))
    told = server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n")
    try:
        for block in blocks:
            told.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
        told.sendall(b"0\r\n\r\n")
    except ConnectionError:  # it need not take all of it
        pass
    else:
        assert told.recv(100).startswith(b"HTTP/1.1 413 ")
    times.append(usual())

    for broken, status in ((b"", 400), (b"no picture", 400), (data[: len(data) // 2], 400), (bomb(), 413)):
        reply = server.score(broken)
        assert reply.status == status and "cannot read picture sent" in reply.json["detail"], reply
    assert server.score(data, "nothing").status == 404
    reply = server.ask("POST", "/models/washer/score?threshold=0.1", data)
    assert reply.status == 422 and "unknown parameter 'threshold'" in reply.json["detail"], "not passed over in silence"
    for header in ({"Content-Type": "multipart/form-data; boundary=x"}, {"Content-Encoding": "gzip"}):
        reply = server.score(data, **header)
        assert reply.status == 415 and "send the picture's file itself as the body" in reply.json["detail"], reply
    assert server.raw(b"no request\r\n\r\n").recv(100).startswith(b"HTTP/1.1 400 ")
    for part in (head, head + length % len(data) + data[:1000], head + length % len(data) + data):
        gone = server.raw(part)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # at once, with a reset
        gone.close()
        times.append(usual())

    deadline = time.monotonic() + RECEIVE + 20
    for connection in slow:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1000) == b""
        connection.close()
    assert max(times) < 10, times
    assert server.memory() - before < 200e6
    assert server.figures()["paddlepatch_held_bytes"] == 0
    assert "Traceback" not in server.said(), server.said()


def test_what_does_not_fit_into_the_queue_is_refused(
    server: Server, pictures: list[Path], expected: SimpleNamespace
) -> None:
    [stopped, _] = server.models()
    data = pictures[0].read_bytes()
    os.kill(stopped, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(MOST_WAITING) as pool:
            waiting = [pool.submit(server.score, data) for _ in range(MOST_WAITING - 1)]
            until(lambda: server.figures()['paddlepatch_waiting_pictures{model="washer"}'] == MOST_WAITING - 1)
            head = f"POST /models/washer/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            late = server.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:-1])
            until(lambda: server.figures()["paddlepatch_held_bytes"] == MOST_WAITING * len(data) - 1)
            waiting.append(pool.submit(server.score, data))
            until(lambda: server.figures()['paddlepatch_waiting_pictures{model="washer"}'] == MOST_WAITING)
            late.sendall(data[-1:])  # there was room when it began to arrive
            assert late.recv(100).startswith(b"HTTP/1.1 429 ")
            reply = server.score(data)
            assert reply.status == 429 and int(reply.headers["retry-after"]) >= 1
            same(server.score(data, "other"), expected, pictures[0])  # another model has a queue of its own
            os.kill(stopped, signal.SIGCONT)
            for one in waiting:
                same(one.result(), expected, pictures[0])
    finally:
        os.kill(stopped, signal.SIGCONT)
    same(server.score(data), expected, pictures[0])


def until(true: object) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_model_whose_process_dies_is_started_again(
    server: Server, pictures: list[Path], expected: SimpleNamespace
) -> None:
    data, [killed, _] = pictures[0].read_bytes(), server.models()
    os.kill(killed, signal.SIGKILL)
    until(lambda: server.ask("GET", "/health").status == 503)
    same(server.score(data, "other"), expected, pictures[0])
    until(lambda: server.ask("GET", "/health").status == 200)
    same(server.score(data), expected, pictures[0])


def test_it_ends_when_what_waits_is_answered(server: Server, pictures: list[Path], expected: SimpleNamespace) -> None:
    """The last test of this server."""
    data, processes = pictures[0].read_bytes(), server.models()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(server.score, data) for _ in range(3)]
        until(lambda: server.figures()['paddlepatch_waiting_pictures{model="washer"}'] == 3)
        for process in (server.process.pid, *processes):  # a whole group gets it, from systemd or a terminal
            os.kill(process, signal.SIGINT)
            os.kill(process, signal.SIGTERM)
        time.sleep(0.3)
        for process in processes:
            os.kill(process, signal.SIGCONT)
        for one in waiting:
            same(one.result(), expected, pictures[0])
    assert server.process.wait(30) == 0
    assert server.said().endswith("the server has ended\n")
    until(lambda: not server.models())


def test_where_others_reach_it_a_token_is_needed(trained: SimpleNamespace) -> None:
    words = ["--stats", trained.export / "stats", "--serve"]
    refused(run("infer.py", *words, "0.0.0.0:0", env={"PADDLEPATCH_TOKEN": " "}), "PADDLEPATCH_TOKEN", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(run("infer.py", *words, taken.getsockname()[1]), "already in use", "another address or port")
    refused(run("infer.py", *words, "no.such.host.invalid:1"), "no.such.host.invalid")
    refused(run("infer.py", *words, "0", "--jsonl"), "--jsonl")
    refused(run("infer.py", *words, "0", "--input_file", "x.png"), "one of --input_file, --watch and --serve")
    refused(run("infer.py", "--stats", "a", "b", "--input_file", "x.png"), "several are for --serve")


def test_a_missing_extra_is_named(trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    for name in ("service", "connection"):
        monkeypatch.delitem(__import__("sys").modules, f"deploy.serve.{name}", raising=False)
    words = ["--stats", trained.export / "stats", "--serve", "0"]
    refused(run("infer.py", *words), "uvicorn", "pip install 'paddlepatch[serve]'")


def test_options_for_files_are_refused() -> None:
    parser = Parser()
    parser.files_for_machines()
    files = set(vars(parser.parse([]))) - {"min_area"}  # a server's answers have regions too
    assert files and files <= set(NO_FILES)


def test_addresses_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_address("8080") == ("127.0.0.1", 8080)
    assert parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    for text in ("", ":80", "x:", "x:99999", "host", "[::1]"):
        with pytest.raises(UserError, match=r"--serve .*HOST:PORT"):
            parse_address(text)
    files = {"gasket": "/x/gasket/stats", "b": "/x/export/stats", "washer": "/x/washer/export/stats"}
    assert named([files["gasket"], f"b={files['b']}", files["washer"]]) == {n: {n: file} for n, file in files.items()}
    assert named(["/x/a=b/c/stats"]) == {"c": {"c": "/x/a=b/c/stats"}}
    assert named(["/x/瓶 子/export/stats", "瓶 1=/x/stats"]) == {
        name: {name: file} for name, file in (("瓶 子", "/x/瓶 子/export/stats"), ("瓶 1", "/x/stats"))
    }
    (tmp_path / "line/first").mkdir(parents=True)
    (tmp_path / "line/first/stats").touch()
    monkeypatch.chdir(tmp_path)
    assert named(["line"]) == {"line": {"first": "line/first/stats"}}
    for stats in (["line=/x/stats", "line"], ["line", "line=/x/stats"]):
        with pytest.raises(UserError, match="a model and a folder are both called line"):
            named(stats)
    for stats in (["a/x/stats", "b/x/stats"], ["a?b=/x/stats"], ["/stats"]):
        with pytest.raises(UserError, match="NAME="):
            named(stats)
