"""The app's logic, without a browser: streamlit's own test runner, and its parts by themselves."""

from __future__ import annotations

import errno
import io
import re
import socket
import string
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, refused, run, table

from datasets.readers import select_categories
from deploy.errors import UserError
from deploy.pictures.decode import encode_png

pytest.importorskip("streamlit", reason="no streamlit: the app is not tested (requirements-app.txt)")
pytestmark = pytest.mark.once

from streamlit.testing.v1 import AppTest  # noqa: E402

from app import downloads, steps, uploads  # noqa: E402
from app.jobs import Job, Stopped  # noqa: E402
from app.settings import WORDS  # noqa: E402
from app.texts import LANGUAGES, TEXTS, Say, escaped  # noqa: E402
from app.uploads import Refused, keep, shown_name  # noqa: E402
from app.workspace import KEPT, MOST_VISITORS, Result, Workspace, Workspaces, owner_of  # noqa: E402
from datasets.sample.write import CATEGORIES  # noqa: E402
from deploy.calibration import Calibration  # noqa: E402
from deploy.predictor import Prediction, Predictor  # noqa: E402
from deploy.results.description import levels_text  # noqa: E402
from deploy.runtime.program import Runtime  # noqa: E402
from evaluation.decisions import choose_threshold  # noqa: E402
from evaluation.report import FIGURES  # noqa: E402
from models import load_model, model_text  # noqa: E402

GREY = encode_png(np.full((40, 50, 3), 90, np.uint8))


@pytest.fixture
def spaces() -> Iterator[Workspaces]:
    """Workspaces whose pages are open where `.active` says so."""
    active: set[str] = set()
    made = Workspaces(active.__contains__)
    made.active = active
    yield made
    made.close_all()


@pytest.fixture
def space(spaces: Workspaces) -> Workspace:
    return spaces.open(None, None)


def ended(job: Job) -> Job:
    """The job, when it is over."""
    until = time.monotonic() + 120
    while not job.over:
        assert time.monotonic() < until, job.lines
        time.sleep(0.05)
    return job


def chinese(text: str) -> bool:
    """Whether there is a Chinese letter in every line."""
    return all(re.search("[\u4e00-\u9fff]", line) for line in text.split("\n"))


# Uploads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shown",
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\parts\\good.png", "good.png"),
        ("a\nb\0c\x1b[31m.png", "abc[31m.png"),
        ("/", "?"),
        ("零件.png", "零件.png"),
    ],
)
def test_a_visitors_name_is_shown_and_never_a_path(space: Workspace, name: str, shown: str) -> None:
    assert shown_name(name) == shown
    [kept] = space.take([(name, GREY)], 5)
    assert kept.name == shown and kept.path == space.folder / "00001" and kept.path.read_bytes() == GREY
    assert len(shown_name("x" * 999)) == uploads.LONGEST_NAME


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "no_picture"),
        (b"this is no picture", "no_picture"),
        (GREY[:-30], "no_picture"),
        (GREY[:16] + (60000).to_bytes(4, "big") * 2 + GREY[24:], "too_many_pixels"),
        (b"\0" * ((uploads.MOST_MEGABYTES << 20) + 1), "too_large"),
    ],
    ids=["empty", "text", "cut short", "a bomb", "large"],
)
def test_bad_uploads_are_refused_and_leave_nothing(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        keep(data, "x.png", tmp_path / "1")
    assert refusal.value.reason == reason and not list(tmp_path.iterdir())
    told = Say("en")(reason, **refusal.value.told)
    assert chinese(Say("zh").line(refusal.value.told.get("cause", "中")))
    assert "x.png" in told and str(tmp_path) not in told


def test_an_upload_that_the_disk_has_no_room_for_is_told(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: bytes) -> int:
            super().write(data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.uploads.open", Full, raising=False)
    assert space.take([("x.png", GREY)], 5) == [] and not list(space.folder.iterdir())
    [(reason, told)] = space.notes
    assert Say("en")(reason, **told) == "x.png cannot be stored on the server: No space left on device."


def test_uploads_are_limited_in_number_and_bytes(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(space.take([("a.png", GREY)] * 5, 3)) == 3
    assert space.notes == [("no_room", {"count": 2})]
    monkeypatch.setattr("app.workspace.MOST_BYTES", 4 * len(GREY))
    taken = space.take([("a.png", GREY)] * 3, 9)
    assert len(taken) == 1 and space.notes[-1] == ("no_room", {"count": 2})
    space.remove(taken)
    assert not taken[0].path.exists() and len(space.take([("b.png", GREY)] * 3, 9)) == 1


def test_pictures_of_the_server_are_never_deleted(space: Workspace, tmp_path: Path) -> None:
    """Test pictures of an offered data set are results as uploads are."""
    (tmp_path / "000.png").write_bytes(GREY)
    [own] = space.take([("a.png", GREY)], 5)
    space.results = [result(space, tmp_path / "000.png", 1.0, True), result(space, own.path, 1.0, None)]
    steps.forget_results(space)
    assert (tmp_path / "000.png").read_bytes() == GREY and not own.path.exists() and not space.results


# Workspaces ---------------------------------------------------------------------------------------------------------


def test_only_the_owner_opens_a_workspace_again(spaces: Workspaces) -> None:
    mine = spaces.open(None, "me")
    assert mine.folder.stat().st_mode & 0o777 == 0o700
    assert spaces.open(mine.key, "me") is mine
    for key, owner in ((mine.key, "other"), (mine.key, None), ("guess", "me"), (None, "me")):
        assert spaces.open(key, owner).folder != mine.folder
    nobodys = spaces.open(None, None)  # a browser without cookies opens nothing again, by whatever key
    assert spaces.open(nobodys.key, None) is not nobodys


def test_a_workspace_ends_with_its_page(spaces: Workspaces) -> None:
    space, left = spaces.open(None, "me"), spaces.open(None, "you")
    space.sessions.add("page")
    spaces.active.add("page")
    now = time.monotonic()
    spaces.close_left(now + KEPT + 1)
    assert space.folder.is_dir() and not left.folder.exists()
    spaces.active.clear()
    spaces.close_left(now + KEPT + 2)
    assert space.folder.is_dir()
    spaces.close_left(now + 2 * KEPT + 3)
    assert not space.folder.exists() and spaces.open(space.key, "me") is not space


def test_there_are_only_so_many_visitors(spaces: Workspaces) -> None:
    made = [spaces.open(None, "me") for _ in range(MOST_VISITORS)]
    assert spaces.open(None, "me") is None and spaces.open(made[0].key, "me") is made[0]
    spaces.close(made[0])
    assert spaces.open(None, "me") is not None


def test_a_browsers_cookie_is_masked_anew_and_still_the_same_owner() -> None:
    token = bytes(range(16))

    def cookie(mask: bytes) -> str:
        masked = bytes(a ^ mask[i % 4] for i, a in enumerate(token))
        return f"2|{mask.hex()}|{masked.hex()}|1700000000"

    assert owner_of(cookie(b"abcd")) == owner_of(cookie(b"\0\xff12")) == token.hex()
    assert [owner_of(bad) for bad in (None, "", "2|zz|00|1", "2||00|1", "2|00||1", "1|00|00|1")] == [None] * 6


def test_a_closed_workspace_stops_its_work(spaces: Workspaces) -> None:
    space, heard = spaces.open(None, "me"), []

    def work(log: Callable[[str], None]) -> None:
        while True:
            try:
                log("on")
            except Stopped:
                heard.append(space.folder.is_dir())
                raise
            time.sleep(0.01)

    space.start("training", work)
    while not space.job.lines:
        time.sleep(0.01)
    spaces.close(space)
    ended(space.job)
    ended(Job("making", lambda log: None))  # the next one's turn has come
    assert heard == [True] and not space.folder.exists()


def test_an_error_is_told_and_a_bug_is_not(capfd: pytest.CaptureFixture) -> None:
    def wrong(log: Callable[[str], None]) -> None:
        raise UserError("give more pictures")

    def bug(log: Callable[[str], None]) -> None:
        raise RuntimeError("secret")

    assert ended(Job("training", wrong)).error == "give more pictures"
    assert ended(Job("training", bug)).error == "?" and "secret" in capfd.readouterr().err


# Texts and the command line -----------------------------------------------------------------------------------------


def test_both_languages_say_the_same() -> None:
    fields = string.Formatter().parse
    for key, texts in TEXTS.items():
        assert len(texts) == len(LANGUAGES) and all(texts), key
        assert len({frozenset(field for _, field, _, _ in fields(text) if field) for text in texts}) == 1, key
    assert all(chinese(texts[1]) for key, texts in TEXTS.items() if key not in ("title", "refused", "of"))
    assert set(CATEGORIES) <= set(TEXTS)


def test_what_the_program_says_is_told_in_chinese() -> None:
    bad = np.array([True, False, True])
    for scores, truth, goal in (([3, 2, 1], ~bad, "precision=0.9"), ([1, 2, 3], bad | True, "f1")):
        with pytest.raises(UserError) as error:
            choose_threshold(np.array(scores, float), truth, steps.Goal.parse(goal))
        assert chinese(Say("zh").line(str(error.value)))
    few = Calibration((1.0, 2.0), (1.0, 2.0), 0.5, 3.0, 0.05, 2.5, 2.0)
    assert chinese(Say("zh").line(levels_text(few))) and len(levels_text(few).split("\n")) == 2
    assert Say("en").line("model") == "model" and Say("zh").line("disk on fire") == "disk on fire"


def test_names_are_not_read_as_markup() -> None:
    assert escaped("![x](http://y) <b> $a$ :red[b]") == r"\!\[x\]\(http\://y\) \<b\> \$a\$ \:red\[b\]"
    assert escaped(3) == 3


@pytest.mark.parametrize(
    "words, named",
    [
        (["--data_path", "absent"], "--data_path absent"),
        (["--save_path", "absent"], "--save_path absent"),
        (["--weights", "absent.pdparams"], "absent.pdparams"),
        (["--prot", "1"], "--prot"),
        (["--port", "70000"], "--port 70000: give a number from 1 to 65535"),
        (["--address", "192.0.2.1"], "--address 192.0.2.1 --port 8501: Cannot assign"),
    ],
)
def test_the_command_line_is_checked_before_a_visitor_comes(words: list[str], named: str) -> None:
    refused(run("-m app", *words), named)


def test_a_port_that_others_have_is_told_before_the_page_is_announced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = run("-m app", "--port", port)
    refused(refusal, f"--port {port}: ", "; choose another address or port")
    assert not refusal.stdout


# The steps ----------------------------------------------------------------------------------------------------------


def result(space: Workspace, path: Path, score: float, told: bool | None) -> Result:
    """A result with that score, of an empty map."""
    shown = np.zeros((112, 112, 3), np.uint8)
    prediction = Prediction(path.name, score, np.zeros((96, 96), np.float32), shown, (256, 256), 0.0)
    return Result(uploads.Upload(path, path.name), prediction, told)


def test_a_training_picture_that_cannot_be_used_is_left_out_and_told(space: Workspace, data: Path) -> None:
    thin = encode_png(np.full((4, 400, 3), 90, np.uint8))
    good = [(path.name, path.read_bytes()) for path in sorted((data / "washer/train/good").iterdir())[:4]]
    space.training = space.take([good[0], ("thin.png", thin), *good[1:]], 99)
    place, paths = space.training[1].path, [picture.path for picture in space.training]
    steps.fit(space, "own", paths, steps.Settings("fast", "compact", None, Runtime()), lambda line: None)
    assert space.model.header["data"]["pictures"] == 4
    assert [picture.name for picture in space.training] == [name for name, _ in good] and not place.exists()
    [(key, told)] = space.notes
    assert key == "left_out" and told["cause"].startswith("picture thin.png is 400 x 4 pixels")
    assert chinese(Say("zh").line(told["cause"]))


def test_a_picked_model_is_a_copy_and_feedback_changes_the_copy_alone(
    space: Workspace, trained: SimpleNamespace
) -> None:
    before, said = trained.model.read_bytes(), []
    steps.load(space, "washer", trained.model, Runtime(), said.append)
    files = sorted((trained.data / "washer/test").rglob("*.png"))
    good = [path for path in files if path.parent.name == "good"]
    bad = [path for path in files if path.parent.name != "good"][:4]
    for paths, truth in ((good, None), (bad, True)):
        taken = space.take([(path.name, path.read_bytes()) for path in paths], 99)
        steps.score(space, taken, said.append, truth=truth)
    assert [r.prediction.name for r in space.results] == [path.name for path in good + bad]
    own = {p.name: p.score for p in load_model(trained.model).predict(good + bad)}
    assert [r.prediction.score for r in space.results] == pytest.approx(list(own.values()))

    # the threshold moves, and false alarms and misses with it
    counts = []
    for space.rate in (0.01, 0.9):
        threshold = steps.levels(space).image_threshold
        decided = steps.decisions(steps.labelled_results(space), threshold)
        assert decided.misses == sum(r.prediction.score <= threshold for r in space.results[len(good) :])
        assert decided.good == 0 and decided.defective == 4
        counts.append(decided.misses)
    assert counts[0] > counts[1]

    # at 0.9 good pictures are false alarms: marked, they become labelled good ones
    alarms = [r for r in space.results[: len(good)] if steps.levels(space).is_defect(r.prediction.score)]
    assert alarms
    for alarm in alarms:
        steps.mark_wrong(space, alarm)
    steps.unmark(space, alarms[0])
    assert steps.marked_good(space) == alarms[1:]
    steps.mark_wrong(space, alarms[0])
    assert steps.marked_good(space) == alarms and all(alarm.truth is False for alarm in alarms)
    first, second = (steps.heat_map(space, alarms[0], steps.levels(space)) for _ in range(2))
    assert first is second  # drawn once

    steps.calibrate(space, steps.Goal("f1"))
    labelled = space.model.calibration.labelled
    assert labelled["good"] == len(alarms) and labelled["defective"] == 4 and space.rate is None
    assert load_model(space.model_path).calibration == space.model.calibration

    # learnt, they are test pictures no more, and the others are scored by the new model
    kept = [r for r in space.results if r not in alarms]
    old = [r.prediction.score for r in kept]
    steps.update_model(space, said.append)
    assert space.results == kept and not any(alarm.picture.path.exists() for alarm in alarms)
    assert space.model.header["data"]["pictures"] == 8 + len(alarms)
    assert [r.prediction.score for r in kept] != old
    assert trained.model.read_bytes() == before
    assert all(map(chinese, map(Say("zh").line, said))) and len(set(said)) > 10
    assert all(chinese(part) for part in map(Say("zh").line, model_text(space.model).split(", ")[:1]))


def test_downloads_are_what_the_scripts_write(
    space: Workspace, trained: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    steps.load(space, "a/washer ../x.safetensors", trained.model, Runtime(), print)
    [tested] = [one.test_pictures() for one in select_categories(trained.data, "washer")]
    picture = tested[0].path
    steps.score(space, space.take([("=../../evil,零件.png", picture.read_bytes())], 9), print)
    assert not downloads.NEEDED["report"](space)  # its truth is not known
    steps.score(space, [uploads.Upload(one.path, f"{one.defect}/{one.path.name}") for one in tested], print, tested)
    for one in space.results:
        steps.heat_map(space, one, steps.levels(space))
    space.language = "zh"
    for kind, make in downloads.DOWNLOADS.items():
        with monkeypatch.context() as patch:  # nothing is scored again, and no heat map of the report drawn again
            patch.setattr(space.model, "predict", None)
            patch.delattr(steps, "panel")
            make(space, said.append)
        with zipfile.ZipFile(io.BytesIO(space.files[kind].read_bytes())) as archive:
            archive.extractall(tmp_path / kind)
    assert all(map(chinese, map(Say("zh").line, said)))
    assert downloads.file_name(space, "export") == "a_washer_x_export.zip"
    [found] = Predictor.load(tmp_path / "export/stats").predict([picture])
    score = space.results[0].prediction.score
    assert found.score == pytest.approx(score, rel=1e-4)
    [again] = load_model(tmp_path / "model/model.safetensors").predict([picture])
    assert again.score == pytest.approx(score, rel=1e-6)
    files = {path.relative_to(tmp_path / "results").as_posix() for path in (tmp_path / "results").rglob("*.*")}
    assert files == {"predict.csv", *(f"heatmaps/{number:03}.png" for number in range(1, len(tested) + 2))}
    assert f",{score:.9g}," in (tmp_path / "results/predict.csv").read_text()

    name = "a_washer_x"
    assert {path.name for path in (tmp_path / "report").iterdir()} == {f"{name}.csv", f"{name}.html", f"{name}_report"}
    [own, _], [theirs, _] = table(tmp_path / f"report/{name}.csv"), table(trained.run / "washer_seed521.csv")
    assert own["PRO_score"] and {key: own[key] for key in FIGURES} == {key: theirs[key] for key in FIGURES}
    page = (tmp_path / f"report/{name}.html").read_text()
    assert page.count("data:image/webp") == page.count("<article") > 1 and "未记录" in page

    # the visitor's word counts: a missed defect is good after all
    called = steps.levels(space).is_defect
    missed = next(one for one in space.results if one.truth and not called(one.prediction.score))
    steps.mark_wrong(space, missed)
    assert missed.truth and missed.kind == missed.told_kind != "good"  # that it is called good is wrong
    missed.marked = False
    assert missed.kind == "good" and missed.outline is None and not missed.truth_mask.any()
    assert set(space.files) == {"export", "model"}


# The page -----------------------------------------------------------------------------------------------------------


def until_done(page: AppTest) -> AppTest:
    """The page after its work has ended, which told of it in lines that are known in Chinese."""
    job = ended(page.session_state["workspace"].job)
    assert job.lines and all(map(chinese, map(Say("zh").line, job.lines)))
    return page.run()


def button(page: AppTest, label: str):  # noqa: ANN201
    """The button of that label."""
    return next(one for one in page.button if one.label == label)


@pytest.mark.skipif(not hasattr(AppTest, "file_uploader"), reason="this streamlit's tests cannot drop files")
def test_the_page_from_dropped_pictures_to_feedback(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORDS, "")
    page = AppTest.from_file(str(ROOT / "app/page.py"), default_timeout=60).run()
    assert not page.exception and button(page, "Train").disabled
    folder = page.session_state["workspace"].folder
    good = sorted((data / "washer/train/good").glob("*.png"))
    files = [(path.name, path.read_bytes(), "image/png") for path in good]
    bad = ("<b>no_picture.png", b"nothing", "image/png")
    page.file_uploader[0].set_value([*files[:2], bad]).run()
    assert not page.exception
    assert "is no picture" in page.warning[0].value and str(folder) not in page.warning[0].value
    assert "2 good pictures" in page.markdown[0].value and button(page, "Train").disabled
    page.file_uploader[0].set_value(files[2:]).run()
    page.segmented_control(key="preset_own").set_value("fast").run()
    button(page, "Train").click().run()
    until_done(page)
    assert not page.exception and page.session_state["workspace"].model is not None, page.session_state["workspace"].job

    flawed = sorted(path for path in (data / "washer/test").rglob("*.png") if path.parent.name != "good")
    page.segmented_control(key="known").set_value("all_defective").run()
    thin = ("thin.png", encode_png(np.zeros((2, 99, 3), np.uint8)), "image/png")
    files = [(path.name, path.read_bytes(), "image/png") for path in flawed]
    page.file_uploader[0].set_value([thin, *files, bad]).run()
    until_done(page)
    told = [
        one.value.replace("\\", "") for one in page.warning
    ]  # both are still to be read when the others have been scored
    assert len(told) == 2 and "no_picture.png is no picture" in told[0], told
    assert told[1].startswith("Left out: picture thin.png is 99 x 2 pixels"), told
    assert chinese(Say("zh").line(told[1].partition(": ")[2]))
    assert len(list(folder.glob("0*"))) == len(good) + len(flawed)

    def misses(rate: float) -> int:
        page.select_slider(key="rate").set_value(rate).run()
        [told] = [one.value for one in page.markdown if one.value.startswith("Misses")]
        assert told.endswith(f" of {len(flawed)}**]")
        return int(re.search(r"\d+", told)[0])

    assert misses(0.5) < misses(0.005)
    page.segmented_control(key="language").set_value("zh").run()
    assert not page.exception and any("漏检" in one.value for one in page.markdown)
    page.button(key="forget").click().run()
    assert not page.exception and not folder.exists()
    page.session_state["workspace"].close()
