"""Several processes that fit together: the same bytes as one, and the end of all when one fails or dies."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import FAST, ROOT, done, fitted, refused, run, table
from test_coreset import generated
from threads_group import together
from warm_python import Process, WarmPython

from deploy import Preprocess, UserError
from models import Augment
from models.base.data import fingerprint_of
from models.base.fitting import fit_features
from models.distributed.group import Group, spread
from models.distributed.job import Job
from models.memory_bank import coreset, neighbours, shards
from models.memory_bank.clusters import Clusters
from models.memory_bank.coreset import Sampler, principal_axes
from models.memory_bank.kcenter import iterate_centres, k_center

pytestmark = pytest.mark.once
SIZES = [2, 3]


def cut(rows: np.ndarray, group: Group) -> np.ndarray:
    """This rank's rows: of 2 ranks all are the second's, but for a seventh."""
    ends = [0, *np.cumsum(np.full(group.size, len(rows) // 7))[:-1], len(rows)]
    return rows[ends[group.rank] : ends[group.rank + 1]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["cloud", "clusters", "grid", "copies", "line", "uneven"])
def test_choosing_together_is_choosing_alone(kind: str, size: int) -> None:
    points = generated(kind)
    alone = k_center(points, 700, 17, threads=1).tolist()
    squared = np.random.default_rng(6).integers(1, 40, len(points)).astype(np.float64)
    from_given = k_center(points, 100, 3, squared, 1).tolist()

    def choose(group: Group) -> tuple[list[int], list[int], int]:
        chosen = list(iterate_centres(cut(points, group), 700, 17, None, 1, group))
        collectives = group.collectives
        return chosen, list(iterate_centres(cut(points, group), 100, 3, cut(squared, group), 1, group)), collectives

    for chosen, given, collectives in together(size, choose):
        assert chosen == alone and given == from_given
        assert collectives < 350, "no exchange for every single choice"


def test_a_rank_without_rows_chooses_too() -> None:
    points = generated("cloud", 100)
    expected = k_center(points, 90, 5).tolist()

    def choose(group: Group) -> list[int]:
        own = points if group.rank == 1 else points[:0]
        return list(iterate_centres(own, 90, 5, None, 1, group))

    assert together(3, choose) == [expected] * 3


@pytest.mark.parametrize("sampler", ["greedy", "approx_greedy", "random", "identity"])
def test_a_sampler_of_several_ranks(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "BLOCK", 64)
    features = np.random.default_rng(3).normal(size=(30, 25, 140)).astype(np.float32)

    def chosen(group: Group) -> list[int]:
        own = cut(features, group)
        found = Sampler(sampler, 140, 30 * 25, 10, 10**6, 5, group=group, here=len(own) * 25)
        for picture in own:
            found.add(picture)
        return found.choose().tolist()

    for size in SIZES:
        assert together(size, chosen) == [chosen(Group())] * size
    if sampler == "greedy":
        with pytest.raises(UserError, match="--coreset_block 750"):
            Sampler(sampler, 140, 750, 10, 300, 5, group=Group(0, 2), here=300)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_rows_are_cut_at_whole_blocks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "BLOCK", 64)
    rows = np.random.default_rng(1).normal(size=(710, 16)).astype(np.float32) * 9 + 100

    def work(group: Group) -> tuple[np.ndarray, ...]:
        own = cut(rows, group)
        held = np.concatenate([own, np.zeros((64, 16), np.float32)])
        found = shards.aligned(held, len(own), 64, group)
        numbers = np.random.default_rng(2).permutation(710)[:50]
        picked = shards.picked(numbers, shards.starts(len(own), group), own.__getitem__, group)
        return (found, *principal_axes(found, group), picked, rows[numbers])

    found = together(size, work)
    assert all(len(part[0]) % 64 == 0 for part in found[:-1])
    np.testing.assert_array_equal(np.concatenate([part[0] for part in found]), rows)
    mean, axes = principal_axes(rows)
    np.testing.assert_array_equal(mean, rows.mean(axis=0, dtype=np.float64).astype(np.float32))
    for _, own_mean, own_axes, picked, expected in found:
        np.testing.assert_array_equal(own_mean, mean)
        np.testing.assert_array_equal(own_axes, axes)
        np.testing.assert_array_equal(picked, expected)


def test_neighbours_and_means_of_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 70)
    random = np.random.default_rng(8)
    bank, owner = random.integers(-2, 3, (300, 8)).astype(np.float32), random.integers(0, 7, 300)  # copies and ties
    half, patches = (bank**2).sum(1) / 2, random.normal(size=(20, 90, 8)).astype(np.float32)

    def work(group: Group) -> list[bytes]:
        here = group.shard(20, 3)
        near = neighbours.neighbours(bank, half, owner, 9, group)
        moved = [
            Clusters(bank, owner, share, lambda i: (90 * i, patches[i]), here, 20, 1800, group=group)
            for share in (0.5, 0.0)
        ]
        step = moved[0]
        without = [step.without(range(i, i + 1), patches[i])[1] for i in here]
        held_out = group.concatenated(np.concatenate([*without, bank[:0]]))
        farthest = [*step.farthest_patches(), *moved[1].farthest_patches()]
        return [part.tobytes() for part in (*near, step.moved(), held_out, *farthest)]

    for size in SIZES:
        assert together(size, work) == [work(Group())] * size


def test_who_does_what() -> None:
    apart = [Job(Group(rank, 2), [5, 9, 1]) for rank in (0, 1)]
    assert [job.own("abc") for job in apart] == [["b"], ["a", "c"]]
    assert all(job.apart and job.writes and job.parts(2) == 6 for job in apart)
    alike = [Job(Group(rank, 2), [5]) for rank in (0, 1)]
    assert [(job.own("a"), job.apart, job.writes, job.leads) for job in alike] == [
        (["a"], False, True, True),
        (["a"], False, False, False),
    ]
    assert alike[0].parts(2) == 1, "what several do together fails for all"
    assert Job(Group(), [5, 9]).own("ab") == ["a", "b"] and Job(Group(), [5, 9]).parts(1) == 2


def test_nobody_begins_before_the_lock_or_after_it() -> None:
    happened: list[str] = []

    @contextmanager
    def lock() -> Iterator[None]:
        time.sleep(0.05)
        happened.append("locked")
        yield
        happened.append("free")

    def work(group: Group) -> None:
        with Job(group, [5]).held(lock):
            happened.append("begun")
            time.sleep(0.05 * group.rank)
            happened.append("done")

    together(3, work)
    assert happened[0] == "locked" and happened[-1] == "free" and len(happened) == 8


def test_shares_and_what_is_joined() -> None:
    assert spread([5, 9, 1, 4], 2) == [1, 0, 0, 1] and spread([1], 3) == [0]
    assert [Group(rank, 3).shard(20, 8) for rank in range(3)] == [range(0, 8), range(8, 16), range(16, 20)]
    assert [Group(rank, 3).shard(8, 8) for rank in range(3)] == [range(0, 0), range(0, 0), range(0, 8)]

    def work(group: Group) -> tuple[list, list, float, float]:
        rows = np.arange(3.0 * group.rank).reshape(-1, 3)
        mine = group.scatter(
            [np.full(2, float(rank)) for rank in range(3)] if group.rank == 1 else None, np.zeros(2), 1
        )
        joined = group.joined([(group.rank, 0.1)])
        return (
            joined,
            group.concatenated(rows).tolist(),
            mine[0],
            group.chained(np.ones(1), lambda v: 2 * v + group.rank)[0],
        )

    for rank, found in enumerate(together(3, work)):
        assert found == ([[0, 0.1], [1, 0.1], [2, 0.1]], [[0, 1, 2], [0, 1, 2], [3, 4, 5]], rank, 12)


TOGETHER = """
import sys
from pathlib import Path
from deploy import Preprocess
from models import build_model
from models.distributed.launch import launched
pictures, out = sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2])
pictures.insert(5, Path(sys.argv[1]) / "none.png")
layers = {"archs": ["compact"], "layers": [["layer2", "layer3"]], "weights": ["random"]}
layers["preprocess"] = Preprocess(72, 64)
with launched(False) as group:
    for method, options in {
        "patchcore": {"k": 10, "image_score": "density", "lloyd": 0.5, "standardise": 0.5, "search": "coarse"},
        "padim": {"k": 12}, "orthoad": {"k": 12},
        "spade": {"k": 3, "descriptor_layer": "layer3"},
    }.items():
        model = build_model(method, **layers, **options)
        model.group = group
        bad = []
        model.fit(pictures, 3, 1, lambda name, error: bad.append(name))
        told = [one.name.rpartition("/")[2] for one in model.odd()]
        if group.rank == 0:
            model.save(out / f"{method}.safetensors")
            print(method, told)
        assert len(group.joined(bad)) == 1
"""


def test_arrays_that_cannot_be_read_are_left_out_by_all_and_the_others_keep_their_numbers() -> None:
    random, bad = np.random.default_rng(3), np.zeros((5, 5), np.uint8)
    arrays = [*random.integers(0, 256, (9, 40, 40, 3), np.uint8)]
    arrays[1:1], arrays[7:7] = [bad], [bad]

    def work(group: Group) -> tuple[list[str], list[str], list[float], range]:
        model = SimpleNamespace(
            group=group,
            preprocess=Preprocess(32, 32),
            augment=Augment(),
            copied=(),
            held_out=lambda pictures: 1,
            start_fit=int,
        )

        def add_features(pictures: list[np.ndarray], *_: object) -> list[str]:
            model.brightness = [float(picture.mean()) for picture in pictures]
            return [fingerprint_of(picture) for picture in pictures]

        model.add_features, told = add_features, []
        seen = fit_features(model, arrays, 2, 1, lambda name, error: told.append(name))
        assert seen == [fingerprint_of(array) for array in arrays if array is not bad]
        return told, model.names, model.brightness, model.shard

    found = together(2, work)
    assert [told for told, *_ in found] == [["picture 1"], ["picture 7"]]
    assert [names for _, names, *_ in found] == [[f"picture {n}" for n in (0, 2, 3, 4, 5, 6, 8, 9, 10)]] * 2
    assert [shard for *_, shard in found] == [range(0, 4), range(4, 9)]


def start_rank(
    warm: WarmPython, monkeypatch: pytest.MonkeyPatch, words: list[object], folder: Path, rank: int, ports: list[int]
) -> Process:
    """Start one process of a job of two as the launcher would; what it says comes into the file `said.RANK`."""
    ends = [f"127.0.0.1:{port}" for port in ports]
    told = {"PADDLE_MASTER": ends[0], "PADDLE_TRAINER_ENDPOINTS": ",".join(ends[1:]), "PADDLE_TRAINERS_NUM": "2"}
    told |= {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": ends[1 + rank]}
    said = os.open(folder / f"said.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    files = [os.open(os.devnull, os.O_RDONLY), said, os.dup(said)]
    with monkeypatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        process = warm.start(words, folder, files)
    for file in files:
        os.close(file)
    return process


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_every_method_is_the_same_from_two_processes(
    data: Path, tmp_path: Path, warm: WarmPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words, ports = ["-c", TOGETHER, data / "washer/train/good"], free_ports(3)
    ranks = [start_rank(warm, monkeypatch, [*words, tmp_path / "two"], tmp_path, rank, ports) for rank in (0, 1)]
    codes = [process.wait(180) for process in ranks]
    assert codes == [0, 0], (tmp_path / "said.0").read_text() + (tmp_path / "said.1").read_text()
    said = os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT)
    assert warm.start([*words, tmp_path / "one"], tmp_path, [said, said, said]).wait(180) == 0
    names = ["patchcore", "padim", "orthoad", "spade"]
    for name in names:
        assert fitted(tmp_path / f"one/{name}.safetensors") == fitted(tmp_path / f"two/{name}.safetensors"), name
    odd = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith(tuple(names))]
    assert len(odd) == 4 and all(line in (tmp_path / "said.0").read_text() for line in odd)


LAUNCH = """
import runpy, sys
sys.executable, *sys.argv[1:] = sys.argv[1:]
runpy.run_module("paddle.distributed.launch", run_name="__main__", alter_sys=True)
"""


def test_the_launcher_gives_every_process_categories(
    trained: SimpleNamespace, data: Path, tmp_path: Path, warm: WarmPython, run_warm: Callable
) -> None:
    words = ["--data_path", data, *FAST, "--save_path", tmp_path / "out", "--eval", "--save_pic", "None"]
    launch = ["--nproc_per_node", 2, "--log_dir", tmp_path / "log", ROOT / "train.py", *words]
    done(run_warm("-c", LAUNCH, warm.program, *launch, cwd=tmp_path))
    rows = table(tmp_path / "out/patchcore_compact_2/all_seed521.csv")
    assert [row["category"] for row in rows] == ["fabric", "washer", "mean"]
    assert rows[1]["Image_AUROC"] == table(trained.run / "washer_seed521.csv")[0]["Image_AUROC"]
    logs = [(tmp_path / f"log/workerlog.{rank}").read_text() for rank in (0, 1)]
    assert sum("== washer" in log for log in logs) == sum("== fabric" in log for log in logs) == 1
    again = done(run("train.py", "--data_path", data, *FAST, "--save_path", tmp_path / "out", "--save_pic", "None"))
    assert again.stdout.count("kept: ") == 2, "a restart, with any number of processes, keeps what is finished"


def test_when_one_ends_the_other_says_why(
    data: Path, tmp_path: Path, warm: WarmPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [ROOT / "train.py", "--data_path", data, "--category", "washer", *FAST, "--save_path"]

    def both(words: list[list[object]]) -> list[Process]:
        ports = free_ports(3)
        return [start_rank(warm, monkeypatch, words[rank], tmp_path, rank, ports) for rank in (0, 1)]

    def said(rank: int) -> str:
        return (tmp_path / f"said.{rank}").read_text()

    # rank 1 has no such weights
    ranks = both([[*train, tmp_path / "a"], [*train, tmp_path / "a", "--weights", tmp_path / "none.pdparams"]])
    begin = time.perf_counter()
    assert [process.wait(60) for process in ranks] == [2, 2], said(0) + said(1)
    assert time.perf_counter() - begin < 60
    for rank in (0, 1):
        [line] = [line for line in said(rank).splitlines() if "error" in line]
        assert "none.pdparams" in line and (line.startswith("error: rank 1: ") or rank == 1)

    ranks = both([[*train, tmp_path / "b"]] * 2)
    begin = time.perf_counter()
    while "good pictures to fit on" not in said(0) and time.perf_counter() < begin + 60:
        time.sleep(0.05)
    ranks[0].send_signal(signal.SIGKILL)
    assert [process.wait(60) for process in ranks] == [-signal.SIGKILL, 2], said(1)
    [line] = [line for line in said(1).splitlines() if "error" in line]
    assert "start the same command again" in line


def test_what_processes_do_not_do_together(data: Path, tmp_path: Path) -> None:
    env = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0"}
    words = ["--data_path", data, "--update", tmp_path / "none.safetensors"]
    refused(run("train.py", *words, env=env), "--update", "one process")


@pytest.mark.parametrize("words", ["eval", "predict x.png", "export_model"])
def test_other_scripts_refuse_to_be_launched_as_several(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = words.split()[0]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words.split()[1:]])
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(UserError, match=f"{script}.py works in one process"):
        importlib.import_module(script).main()
