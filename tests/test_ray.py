"""Scoring with Ray on two nodes of this machine: the tables are infer.py's own, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, refused, run, table

from deploy import UserError
from deploy.engine import parts
from deploy.runtime.program import Runtime
from deploy.storage.files import exclusive

pytestmark = pytest.mark.once
ray = pytest.importorskip("ray", reason="ray is not installed")
try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:  # it may be there, and want a newer numpy than Paddle 2.6
    pytest.skip(f"pyarrow: {error}", allow_module_level=True)
from deploy.engine import parquet, ray_data, scorer  # noqa: E402

OPTIONS = ["-b", 2, "--cpu_threads", 1, "--jsonl", "--parquet", "--enable_drift"]
RAY = ["--engine", "ray", *OPTIONS]
BAD, DIES, DIED = "005.png", "dies", "died"
TABLES = ("infer.csv", "infer.jsonl", "infer.parquet")


class Dying(scorer.Scorer):
    """A worker that kills its process when it has scored the second part, before it says so, if a file asks for it.

    It is sent to Ray's processes as it stands here: they cannot import the tests.
    """

    def score(self, number: int, pictures: list) -> parts.Result:
        result = super().score(number, pictures)
        if number == 1 and Path(DIES).exists():
            Path(DIES).rename(DIED)
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Two nodes of a core each; the environment in which they are found."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "120")  # where the other process of the tests has the core
        node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
        head = {**node, "no_monitor": True, "include_log_monitor": False}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(**node)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield {"RAY_ADDRESS": nodes.address}
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        nodes.shutdown()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of four pictures, and workers that die when they are told to."""
    monkeypatch.setattr(parts, "SIZE", 3)  # and so two batches
    monkeypatch.setattr(ray_data, "Scorer", Dying)


@pytest.fixture(scope="module")
def place(trained: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A working folder with pictures, one of them no picture, and what infer.py alone says and writes of them."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "pictures").mkdir()
    shutil.copy(ROOT / "infer.py", folder)  # the workers get the package from the script, not from a folder they share
    found = sorted((trained.data / "washer/test").rglob("*.png"))
    for number in range(22):
        shutil.copy(found[number % len(found)], folder / f"pictures/{number:03}.png")
    (folder / "pictures" / BAD).write_bytes(b"no picture")
    words = ["infer.py", "--stats", trained.export / "stats", "--input_file"]
    local = run(*words, "pictures", "--save_path", "local", "--save_pic", "none", *OPTIONS, cwd=folder)
    assert local.returncode == 2 and f"pictures/{BAD}" in local.stderr
    return SimpleNamespace(folder=folder, words=words, said=local.stdout.splitlines()[-3:], skipped=local.stderr)


def rows(folder: Path) -> list[list[dict]]:
    """The rows of the three tables of a run, without the command, which is another one."""
    with open(folder / "infer.jsonl") as file:
        found = [
            table(folder / "infer.csv"),
            [*map(json.loads, file)],
            pq.read_table(folder / "infer.parquet").to_pylist(),
        ]
    return [[{name: cell for name, cell in row.items() if name != "command"} for row in one] for one in found]


def same(result: object, out: str, place: SimpleNamespace) -> None:
    """The run said and wrote what infer.py alone does, and left nothing else."""
    assert result.returncode == 2 and result.stderr == place.skipped, result.stderr
    lines = [line for line in result.stdout.splitlines() if "(raylet)" not in line]  # Ray says that a worker died
    said = [line.replace(f" {out}/", " local/") for line in lines]
    assert said[-3:] == place.said
    assert rows(place.folder / out) == rows(place.folder / "local")
    assert sorted(path.name for path in (place.folder / out).iterdir()) == sorted(TABLES)


def without_ray(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """This process is the worker, and gives the parts back in another order."""

    def scored(
        self: ray_data.RayPredictor, wanted: list[parts.Part], *options: int
    ) -> Iterator[tuple[parts.Part, str]]:
        worker = scorer.Scorer(str(folder), self._files, Runtime(threads=1), *options, None)
        for part in reversed(wanted):
            yield part, json.dumps(worker.score(0, json.loads(part.pictures)))

    patch.setattr(ray_data.RayPredictor, "_scored", scored)
    patch.setattr(scorer, "begun", lambda *_: 1)


def test_a_stopped_run_goes_on_and_a_killed_worker_loses_and_repeats_nothing(
    place: SimpleNamespace, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*place.words, "pictures", "--save_path", "ray", *RAY, "--num_workers", 1]
    write, written = parts.Store.write, []

    def stopping(self: parts.Store, part: parts.Part, text: str) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part)
        write(self, part, text)

    with monkeypatch.context() as patch:
        without_ray(patch, place.folder)
        patch.setattr(parts.Store, "write", stopping)
        stopped = run(*words, cwd=place.folder)
    assert stopped.returncode == 130 and not (place.folder / "ray/infer.csv").exists()
    kept = sorted(path.name for path in (place.folder / "ray/infer.parts").iterdir())
    assert kept == sorted(f"{part.name}.json" for part in written)

    (place.folder / DIES).touch()
    result = run(*words, cwd=place.folder, env=cluster)
    assert (place.folder / DIED).exists()
    assert "2 of 6 parts were finished before" in result.stdout
    assert f"Ray {ray.__version__}: workers 2, cores of each 1" in result.stdout
    same(result, "ray", place)


def test_parquet_holds_the_pictures(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch, place.folder)
    paths = sorted(Path("pictures", path.name) for path in (place.folder / "pictures").iterdir())
    (place.folder / "tables").mkdir()
    for number, some in enumerate((paths[:9], paths[9:17], paths[17:])):  # so that parts are of two files
        held: dict[str, list] = {"path": [str(path) for path in some]}
        if number < 2:
            held["bytes"] = [(place.folder / path).read_bytes() for path in some]
        pq.write_table(pa.table(held), place.folder / f"tables/{number}.parquet", row_group_size=5)
    result = run(*place.words, "tables", "--save_path", "held", *RAY, "--num_workers", 1, cwd=place.folder)
    same(result, "held", place)


def test_a_part_is_named_by_its_pictures_as_they_are_and_all_that_scores_depend_on(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        path.write_bytes(b"1")

    def names(batch_size: int = 2, depends: str = "settings") -> list[str]:
        return [part.name for part in parts.cut(paths, batch_size, depends)]

    first = names()
    assert names() == first and len(first) == 2
    assert not {*names(4), *names(depends="others")} & {*first}
    os.utime(paths[4], (1, 1))  # written anew, as long as before
    assert names()[0] == first[0] and names()[1] != first[1]


def test_a_part_of_another_number_of_pictures_is_refused(tmp_path: Path) -> None:
    store, part = parts.Store(tmp_path), parts.Part("0" * 64, "[]", 2)
    for scores, skipped in (([["a", 1.0, 2.0]], [["b", "why"]]), ([["a", 1.0, 2.0]], [])):
        store.write(part, json.dumps([scores, skipped]))
        if skipped:
            assert store.read(part).skipped == skipped
    with pytest.raises(UserError, match="has not the 2 pictures"):
        store.read(part)


def test_two_runs_do_not_write_the_same_parts(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch, place.folder)
    with exclusive(place.folder / "both/infer.parts"):
        refused(run(*place.words, "pictures", "--save_path", "both", *RAY, cwd=place.folder), "another run is writing")


def test_a_part_that_kills_every_worker_ends_the_run(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    counts: Counter = Counter()

    def begun(attempts: Counter, number: int) -> int:
        attempts[number] += 1
        return attempts[number]

    monkeypatch.setattr(scorer, "begun", begun)
    files = tuple(str(place.words[2].with_name(name)) for name in ("stats", "model.json", "model.pdiparams"))
    worker = scorer.Scorer(str(place.folder), files, Runtime(threads=1), 2, 1, counts)
    batch = {"number": np.array([3]), "pictures": np.array(['["pictures/000.png", "pictures/001.png"]'])}
    for _ in range(worker.MOST_ATTEMPTS):
        told = worker(batch)
        assert told["error"] == [""] and len(json.loads(told["result"][0])[0]) == 2
    [error] = worker(batch)["error"]
    assert "4 workers died" in error and "pictures/000.png to pictures/001.png" in error and "--cpu_threads" in error


def test_parquet_that_holds_no_pictures_is_refused(
    place: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, file = [*place.words, tmp_path / "x.parquet", *RAY], tmp_path / "x.parquet"
    for columns, said in (
        ({"picture": [b"x"]}, "neither a column path nor bytes, but picture"),
        ({"bytes": ["text"]}, "column bytes holds string, not binary"),
        ({"path": pa.array([], pa.string())}, "have no rows"),
    ):
        pq.write_table(pa.table(columns), file)
        refused(run(*words, cwd=place.folder), "x.parquet", said)
    file.write_bytes(b"PAR1 and nothing else")
    refused(run(*words, cwd=place.folder), "x.parquet", "as Parquet")


def test_rows_of_parquet_are_read_from_any_group(tmp_path: Path) -> None:
    data = [bytes([number]) for number in range(50)]
    for number, some in enumerate((data[:30], data[30:])):
        pq.write_table(pa.table({"bytes": some}), tmp_path / f"{number}.parquet", row_group_size=7)
    stored = parquet.listed(parquet.parquet_files(tmp_path))
    assert [one.name for one in stored[29:31]] == [f"{tmp_path}/0.parquet#29", f"{tmp_path}/1.parquet#0"]
    for begin, end in ((0, 50), (6, 8), (29, 31), (49, 50)):
        found = [*parquet.contents(stored[begin:end])]
        assert [one.data for one in found] == data[begin:end]
        assert [str(one) for one in found] == [str(one) for one in stored[begin:end]]


def test_a_worker_that_cannot_start_says_so(trained: SimpleNamespace, tmp_path: Path) -> None:
    files = tuple(str(trained.export / name) for name in ("stats", "model.json", "model.pdiparams"))
    batch = {"number": np.array([7]), "pictures": np.array(["[]"])}
    for folder, stats, said in ((tmp_path / "none", files[0], "every node"), (tmp_path, "none", "no stats file")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)  # and back
            told = scorer.Scorer(str(folder), (stats, *files[1:]), Runtime(), 1, 1, None)(batch)
        assert told["number"] == [7] and told["result"] == [""] and said in told["error"][0]


def test_options_that_do_not_go_with_ray(trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--stats", trained.export / "stats", "--engine", "ray"]
    some = ["--save_pic", "all", "--save_mask", "--gpu", 0, "--input_file", "x.png"]
    refused(run("infer.py", *words, *some), "--save_pic", "--save_mask", "--gpu")
    refused(run("infer.py", *words, "--serve", 0), "--serve")
    refused(run("infer.py", *words, "--watch", "x"), "--watch")
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ray_data", "scorer"):
        monkeypatch.delitem(sys.modules, f"deploy.engine.{name}")
    refused(run("infer.py", *words, "--input_file", "x.png"), "ray", "pip install 'paddlepatch[ray]'")


def test_a_cluster_that_is_not_there(place: SimpleNamespace) -> None:
    env = {"RAY_ADDRESS": "127.0.0.1:1"}
    refused(run(*place.words, "pictures", *RAY, cwd=place.folder, env=env), "RAY_ADDRESS 127.0.0.1:1")
