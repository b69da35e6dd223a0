"""Nothing is lost: no run replaces, removes or scores what it should not, and one odd file harms no other."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import done, refused, run, table
from test_bad_input import snapshot

from deploy import Predictor, UserError
from deploy.pictures.decode import encode_png
from deploy.pictures.listing import list_pictures
from deploy.pictures.mark import is_marked, lies_as_marked, marked
from deploy.results import watch as service
from deploy.results.tables import ScoreSheet, picture_namer
from deploy.results.watch import Journal
from deploy.storage.files import fitting_path, write_whole
from deploy.storage.tensors import read_tensors, write_tensors

pytestmark = pytest.mark.once
COLUMNS = ("path", "score", "command")


def infer(trained: SimpleNamespace, place: object, out: Path, *words: object):  # noqa: ANN201
    return run("infer.py", "--stats", trained.export / "stats", "-i", place, "--save_path", out, *words)


@pytest.fixture
def pictures(trained: SimpleNamespace, tmp_path: Path) -> Path:
    """A folder of three pictures that may be changed."""
    return Path(shutil.copytree(trained.data / "washer/test/good", tmp_path / "pictures"))


def picture_bytes(shape: tuple[int, int]) -> bytes:
    return cv2.imencode(".png", np.full((*shape, 3), 90, np.uint8))[1].tobytes()


def add_odd_files(folder: Path) -> list[bytes]:
    """Put everything that no picture can be read from into `folder`; the names."""
    (folder / "thin.png").write_bytes(picture_bytes((2000, 1)))
    (folder / "flat.png").write_bytes(picture_bytes((1, 20000)))
    (folder / "text.png").write_bytes(b"no picture")
    (folder / "d.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    here = os.getcwd()
    os.chdir(folder)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
    os.chdir(here)
    (folder / os.fsdecode(b"bad\xff.png")).write_bytes(b"no picture")
    return [b"thin.png", b"flat.png", b"text.png", b"d.png", b"pipe.png", b"gone.png", b"loop.png", b"socket.png",
            b"bad\xff.png"]  # fmt: skip


def add_odd_names(folder: Path) -> list[str]:
    """Pictures that can be read, under names that are hard to write; the names."""
    names = [os.fsdecode(b"caf\xe9.png"), "n" * 251 + ".png", "n" * 250 + "m.png", "new\nline.png"]
    for name in names:
        shutil.copy(folder / "000.png", folder / name)
    return names


def raw_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# One odd file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["infer.py", "predict.py"])
def test_odd_files_are_told_and_skipped(trained: SimpleNamespace, pictures: Path, tmp_path: Path, script: str) -> None:
    odd, names = add_odd_files(pictures), add_odd_names(pictures)
    if script == "infer.py":
        result, folder = infer(trained, pictures, tmp_path / "out", "--jsonl"), tmp_path / "out"
    else:
        words = ["--model_path", trained.model, "--save_path", tmp_path / "out"]
        result = run(script, pictures, *words)
        folder = tmp_path / "out/patchcore_compact_2/washer"
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    told = result.stderr.splitlines()
    assert len(told) == len(odd) + 1 and f"{len(odd)} of {len(odd) + len(names) + 3} pictures" in told[-1]
    for name in odd:
        shown = os.fsdecode(name).encode(errors="backslashreplace").decode()
        assert sum(f"/{shown}" in line for line in told) == 1, (shown, told)
    rows = raw_table(folder / f"{script[:-3]}.csv")
    assert sorted(Path(row["path"]).name for row in rows) == sorted([*names, "000.png", "001.png", "002.png"])
    assert all(Path(row["path"]).is_file() and float(row["score"]) > 0 for row in rows)
    drawn = list((folder if script == "infer.py" else folder / "predict").glob("heatmaps/*.png"))
    assert len(drawn) == len(rows)
    if script == "infer.py":
        objects = [json.loads(line) for line in (folder / "infer.jsonl").read_bytes().splitlines()]
        assert [one["path"] for one in objects] == [row["path"] for row in rows]


def test_training_names_odd_files_or_skips_them(trained: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data / "washer/train/good", tmp_path / "data/washer/train/good"))
    odd = add_odd_files(folder)
    words = ["--data_path", tmp_path / "data", *trained.words[4:-1], tmp_path / "out"]
    refused(run("train.py", *words), "cannot read picture", str(folder))
    result = done(run("train.py", *words, "--skip_bad"))
    assert f"{len(odd)} pictures skipped" in result.stdout and len(result.stderr.splitlines()) == len(odd)


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (32, 1), (96, 3), (3, 96)])
def test_pictures_up_to_the_longest_are_scored_and_drawn(
    trained: SimpleNamespace, tmp_path: Path, shape: tuple[int, int]
) -> None:
    (tmp_path / "x.png").write_bytes(picture_bytes(shape))
    done(infer(trained, tmp_path / "x.png", tmp_path / "out", "--save_mask"))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    with pytest.raises(UserError, match="over 32 times"):
        Predictor.load(trained.export / "stats").preprocess.resized(np.zeros((1, 33, 3), np.uint8))


def test_a_list_may_hold_any_name(trained: SimpleNamespace, pictures: Path, tmp_path: Path) -> None:
    names = [name for name in add_odd_names(pictures) if "\n" not in name]
    lines = [os.fsencode(pictures / name) for name in names]
    (tmp_path / "list.txt").write_bytes(b"\n".join([*lines, b"a\0b.png"]))
    result = infer(trained, tmp_path / "list.txt", tmp_path / "out", "--save_pic", "no")
    assert result.returncode == 2 and "1 of 4 pictures" in result.stderr
    assert [os.fsencode(row["path"]) for row in raw_table(tmp_path / "out/infer.csv")] == lines


def test_long_names_are_cut_the_same_way_and_never_meet(tmp_path: Path) -> None:
    names = ["a" * 252, "a" * 251 + "b", "ü" * 126 + "x", "ü" * 127, "d" * 255 + "/x", "/".join(["e" * 250] * 17)]
    places = [fitting_path(tmp_path, f"{name}.png") for name in names]
    assert len(set(places)) == len(names) and places == [fitting_path(tmp_path, f"{name}.png") for name in names]
    assert fitting_path(tmp_path, "a/b.c.png") == tmp_path / "a/b.c.png"
    for place in places:
        assert write_whole(place, b"x").suffix == ".png"


def test_who_reads_a_file_reads_on_in_the_old_one_while_it_is_replaced(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a", b"old" * 9)
    with open(path, "rb", buffering=0) as reading:
        start = reading.read(3)
        write_whole(path, b"new")
        assert start + reading.read() == b"old" * 9 and path.read_bytes() == b"new"


def test_heat_maps_have_names_of_their_own() -> None:
    paths = [Path(f"/f/{name}") for name in ("a.png", "a.jpg", "a.png.png", "b.c.png", "b.png", "b")]
    names = list(map(picture_namer(paths), map(str, paths)))
    assert len(set(names)) == len(names)


# Results are not scored, and only results are replaced ----------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "out", "deep/er"])
def test_what_was_drawn_is_not_scored(trained: SimpleNamespace, pictures: Path, below: str) -> None:
    (pictures.parent / "link").symlink_to(pictures)
    before = {path.name for path in pictures.iterdir()}
    done(infer(trained, pictures, pictures / below, "--save_mask"))
    for place in (pictures, pictures.parent / "link"):
        result = done(infer(trained, place, pictures / below, "--save_mask"))
        assert "3 pictures:" in result.stdout and "6 heat maps or masks" in result.stderr
    assert {path.name for path in list_pictures(pictures)} == before
    result = done(run("predict.py", pictures, "--model_path", trained.model, "--save_path", pictures))
    assert "3 pictures:" in result.stdout
    refused(infer(trained, pictures / below / "heatmaps", pictures / "out"), "heat maps and masks of earlier runs")


def test_every_run_keeps_to_its_own_pictures(trained: SimpleNamespace, pictures: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(trained.output, tmp_path / "output"))
    folder = output / "patchcore_compact_2/washer"
    evaluated = snapshot(folder / "heatmaps")
    mine = folder / "predict/heatmaps/mine.png"
    words = ["--category", "washer", "--arch", "compact", "--k", "2", "--save_path", output]
    done(run("predict.py", pictures, *words))
    assert snapshot(folder / "heatmaps") == evaluated
    # a copy under another name, an edited one, and another program's file are not ours to remove
    shutil.copy(folder / "predict/heatmaps/000.png", mine)
    edited = folder / "predict/heatmaps/001.png"
    edited.write_bytes(edited.read_bytes() + b"edited")
    (folder / "predict/heatmaps/notes.txt").write_text("mine")
    (pictures / "other").mkdir()
    for name in ("000.png", "001.png"):
        (pictures / name).unlink()
    (pictures / "002.png").rename(pictures / "other/002.png")
    done(run("predict.py", pictures / "other", trained.data / "washer/test/chip/000.png", *words))
    left = {str(p.relative_to(folder / "predict")) for p in (folder / "predict").rglob("*") if p.is_file()}
    assert {name for name in left if "heatmaps/0" in name or "/" not in name} == {"heatmaps/001.png"}
    assert {"heatmaps/mine.png", "heatmaps/notes.txt"} <= left and "heatmaps/000.png" not in left
    assert len(left) == 5 and "heatmaps/002.png" not in left
    # the evaluation's pictures are not infer.py's to replace either
    refused(infer(trained, trained.data / "washer/test", folder), "heatmaps/", "another kind of run")
    assert snapshot(folder / "heatmaps") == evaluated and not (folder / "infer.csv").exists()


def test_results_are_all_of_one_run(trained: SimpleNamespace, pictures: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", ["--save_mask", "--save_map", "--save_regions", "--jsonl"]
    done(infer(trained, pictures, out, *more))
    assert {"infer.jsonl", "infer_regions.jsonl", "infer_coco.json", "maps/000.png"} <= set(snapshot(out))
    (out / "masks/mine.png").write_bytes(b"mine")
    (out / "infer_regions.csv").write_text("mine")
    done(infer(trained, pictures, out, "--save_pic", "none"))
    assert set(snapshot(out)) == {"infer.csv", "infer_regions.csv", "masks/mine.png"}
    output = Path(shutil.copytree(trained.output, tmp_path / "output"))
    words = [*trained.named[:-1], output, "--data_path", trained.data]
    done(run("eval.py", *words, "--save_regions"))
    folder = output / "patchcore_compact_2/washer"
    assert {"contact_sheet.png", "eval_coco.json"} <= set(snapshot(folder))
    done(run("eval.py", *words, "--save_pic", "none"))
    assert {name for name in snapshot(folder) if not name.startswith(("odd", "predict", "export"))} == {
        "eval.csv",
        "times.csv",
    }


def test_a_run_that_fails_leaves_the_last_ones_pictures(
    trained: SimpleNamespace, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(infer(trained, pictures, tmp_path / "out"))
    before = snapshot(tmp_path / "out")
    (pictures / "000.png").rename(pictures / "renamed.png")
    monkeypatch.setattr(ScoreSheet, "finish", lambda self: (_ for _ in ()).throw(UserError("no more")))
    refused(infer(trained, pictures, tmp_path / "out"), "no more")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize(
    "place", ["infer.csv", "infer.jsonl", "heatmaps/001.png", "heatmaps/001.png/x", "masks/001.png"]
)
def test_other_programs_files_are_not_replaced(
    trained: SimpleNamespace, pictures: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    (tmp_path / "out" / place).write_text("mine")
    refused(infer(trained, pictures, tmp_path / "out", "--save_mask", "--jsonl"), place.removesuffix("/x"))
    assert snapshot(tmp_path / "out") == {place: b"mine"}


@pytest.mark.parametrize("name", ["model.json", "about.json", "stats", "model.pdiparams"])
def test_an_export_replaces_exports_only(trained: SimpleNamespace, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}" * 50)
    refused(run("export_model.py", "--model_path", trained.model, "--save_dir", tmp_path), name)
    assert snapshot(tmp_path) == {name: b"{}" * 50}


def test_models_and_reports_replace_their_own_only(trained: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("washer.safetensors", "washer_seed521.csv"):
        (tmp_path / name).write_text("what another program wrote there, which is long enough to be anything")
    before = snapshot(tmp_path)
    words = [tmp_path if word == trained.output else word for word in trained.words]
    refused(run("train.py", *words, "--save_model_subfolder", "no"), "washer.safetensors", "not written by")
    refused(run("train.py", *words, "--save_model_subfolder", "no", "--save_model", "no", "--save_pic", "no", "--eval"),
            "washer_seed521.csv", "not written by")  # fmt: skip
    now = snapshot(tmp_path)
    assert {name: now[name] for name in before} == before


def test_the_mark_holds_for_one_file_at_one_place(tmp_path: Path) -> None:
    png = encode_png(np.zeros((4, 4, 3), np.uint8))
    path = write_whole(tmp_path / "a.png", marked(png, "eval a"))
    assert lies_as_marked(path, "eval a") and not lies_as_marked(path, "eval b")
    assert cv2.imread(str(path)).shape == (4, 4, 3)
    (tmp_path / "link.png").symlink_to(path)
    assert is_marked(tmp_path / "link.png") and not lies_as_marked(tmp_path / "link.png", "eval a")
    for change in (-1, 40, 110):
        data = bytearray(path.read_bytes())
        data[change] ^= 1
        (tmp_path / "b.png").write_bytes(data)
        assert not lies_as_marked(tmp_path / "b.png", "eval a")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "plain.png").write_bytes(png)
    assert not is_marked(tmp_path / "pipe.png") and not is_marked(tmp_path / "plain.png")


# The watcher ----------------------------------------------------------------------------------------------------------


def watch(trained: SimpleNamespace, folder: Path, out: Path, lines: int, *words: object):  # noqa: ANN201
    """infer.py --watch in this process, ended when the table has so many lines and one round more has passed."""

    table_path = out / "watch.csv"

    def ready() -> bool:
        serving = signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN  # only then can it be told to end
        return serving and table_path.is_file() and len(raw_table(table_path)) >= lines

    def end() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ready():
            time.sleep(0.05)
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGTERM)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # where the service ends before it is told to
    thread = threading.Thread(target=end)
    thread.start()
    try:
        return run("infer.py", "--stats", trained.export / "stats", "--watch", folder, "--save_path", out, *words)
    finally:
        thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("below", ["", "out"])
def test_a_watcher_leaves_out_its_own_pictures(trained: SimpleNamespace, pictures: Path, below: str) -> None:
    out = pictures / below
    (pictures.parent / "link").symlink_to(pictures)
    for place in (pictures, pictures.parent / "link"):
        done(watch(trained, place, out, 3, "--save_mask"))
    assert len(raw_table(out / "watch.csv")) == 3
    assert len(list(out.rglob("heatmaps/*.png"))) == len(list(out.rglob("masks/*.png"))) == 3
    kept = snapshot(out)
    done(infer(trained, pictures, out))
    assert {name: (out / name).read_bytes() for name in kept} == kept  # watch.csv and watch/ among them
    assert len(table(out / "infer.csv")) == 3


def test_a_watcher_gives_odd_files_a_line_and_goes_on(
    trained: SimpleNamespace, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SETTLED", 0.2)
    odd, names = add_odd_files(pictures), add_odd_names(pictures)
    result = done(watch(trained, pictures, tmp_path / "out", len(odd) + len(names) + 3))
    rows = {Path(row["path"]).name: row["score"] for row in raw_table(tmp_path / "out/watch.csv")}
    assert sorted(name for name, score in rows.items() if not score) == sorted(map(os.fsdecode, odd))
    assert sorted(name for name, score in rows.items() if score) == sorted([*names, "000.png", "001.png", "002.png"])
    assert len(result.stderr.splitlines()) == len(odd)
    again = done(watch(trained, pictures, tmp_path / "out", 1))
    assert again.stderr == "" and len(raw_table(tmp_path / "out/watch.csv")) == len(rows)


@pytest.mark.parametrize(
    "content",
    [
        b"my only line, without an end",
        b"name,score\na.png,1\n",
        b"path,score,command\na.png,1,x\nb.png,1\n",
        b'path,score,command\na",1,x\nb.png,1,x\n',
        b'path,score,command\n"a,1,x\nb.png,1,x\n',
        b'path,score,command\n"a"b,1,x\n',
        b"\n",
        bytes(range(256)),
    ],
)
def test_a_table_that_is_not_the_watchers_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "watch.csv"
    path.write_bytes(content)
    for _ in range(2):  # the lock is given back as well
        with pytest.raises(UserError, match=r"watch\.csv"):
            Journal(path, COLUMNS)
    assert path.read_bytes() == content


@pytest.mark.parametrize("end", [b"\n", b"\n\n", b"\r\n", b"   \n", b'"cut sho', b'"cut\nsh', b"cut,sh\xff"])
def test_a_table_of_the_watchers_goes_on(tmp_path: Path, end: bytes) -> None:
    path, long = tmp_path / "watch.csv", "x" * 300_000
    journal = Journal(path, COLUMNS)
    names = [os.fsdecode(b"/f/caf\xe9.png"), "new\nline.png", 'quo"te,.png', "long.png"]
    for name in names:
        journal.add((name, 1, long))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + end)
    again = Journal(path, COLUMNS)
    assert again.done == set(names)
    again.add(("next.png", 2, ""))
    again.close()
    kept = whole + (end if end.endswith(b"\n") and not end.startswith(b'"') else b"")
    assert path.read_bytes() == kept + b"next.png,2,\n"


# Names from files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arch": "../../outside"}, "arch"),
        ({"arch": ".."}, "arch"),
        ({"backbone": {"file": "../elsewhere/resnet18.safetensors", "sha256": "0"}}, "file"),
        ({"members": [{"arch": "resnet18", "backbone": {"file": "/tmp/x"}}]}, "file"),
        ({"seed": "1/../../../outside"}, "seed"),
        ({"k": "2/../../outside"}, "k"),
    ],
)
def test_a_header_leads_nowhere_else(trained: SimpleNamespace, tmp_path: Path, change: dict, said: str) -> None:
    run_folder = Path(shutil.copytree(trained.run, tmp_path / "run"))
    for path, kind in ((run_folder / "washer.safetensors", "model"), (run_folder / "washer/export/stats", "stats")):
        tensors, header = read_tensors(path, kind)
        write_tensors(path, {name: np.array(value) for name, value in tensors.items()}, {**header, **change})
    picture = trained.data / "washer/test/good/000.png"
    before = snapshot(tmp_path)
    words = ["--model_path", run_folder / "washer.safetensors", "--save_path", tmp_path / "out"]
    refused(run("predict.py", picture, *words), said)
    refused(run("eval.py", "--data_path", trained.data, "--category", "washer", *words), said)
    refused(run("export_model.py", *words), said)
    stats = run_folder / "washer/export/stats"
    refused(run("infer.py", "--stats", stats, "-i", picture, "--save_path", tmp_path / "out"), said)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["../outside", "/outside", ".."])
def test_a_category_is_no_path(trained: SimpleNamespace, tmp_path: Path, name: str) -> None:
    words = ["--category", name, "--model_path", trained.model, "--save_path", tmp_path / "out"]
    refused(run("predict.py", trained.data / "washer/test/good", *words), "--category", "plain name")
    refused(run("export_model.py", *words), "--category", "plain name")
    refused(run("eval.py", "--data_path", trained.data, *words), "--category")
    assert not list(tmp_path.iterdir())
