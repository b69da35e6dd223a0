"""The report: one page that says what the tables say, needs nothing else, and trusts no name of a file."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import CHROMIUM, chromium, keep_screenshot
from conftest import ROOT, done, refused, run, run_process, table

import deploy.results.tables
import evaluation.publish
from deploy.errors import UserError
from deploy.pictures.mark import is_marked
from deploy.storage.tensors import read_header
from evaluation.chapter import Chapter
from evaluation.page import write_page
from evaluation.page.content import levels_text
from evaluation.page.plots import COLOURS, Labels, all_pro_plot, all_roc_plot
from evaluation.page.published import FILE, published_for
from evaluation.page.texts import TEXTS, words
from evaluation.times import read_times, write_times

pytestmark = pytest.mark.once
EVIL = "<script>"
NAMES = [EVIL, "plain", "washer"]


@pytest.fixture(scope="module")
def report(trained: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """eval.py --report run once on three categories with one model: `.page`, `.html`, `.files`, `.run`.

    One of them, and a kind of its defects, is called EVIL; `plain` has neither defects nor times of the fit.
    """
    place = tmp_path_factory.mktemp("report")
    for name in NAMES:
        shutil.copytree(trained.data / "washer", place / "data" / name)
    kinds = sorted(path.name for path in (place / "data/washer/test").iterdir() if path.name != "good")
    for folder in ("test", "ground_truth"):
        (place / "data" / EVIL / folder / kinds[0]).rename(place / "data" / EVIL / folder / EVIL)
        for kind in kinds:
            shutil.rmtree(place / "data/plain" / folder / kind)
    own = place / "out/patchcore_compact_2"
    own.mkdir(parents=True)
    for file in trained.run.glob("*.safetensors"):
        shutil.copy(file, own)
    for name in NAMES[:2]:
        shutil.copy(trained.model, own / f"{name}.safetensors")
    (own / "washer").mkdir()
    shutil.copy(trained.run / "washer/times.csv", own / "washer/times.csv")
    words = ["--data_path", place / "data", "--arch", "compact", "--k", "2", "--save_path", place / "out"]
    drawn: list[str] = []
    given: list[list[Chapter]] = []
    with pytest.MonkeyPatch.context() as patch:
        write = evaluation.publish.write_page
        patch.setattr(evaluation.publish, "write_page", lambda *one: given.append(one[1]) or write(*one))
        whole = deploy.results.tables.tiles
        patch.setattr(deploy.results.tables, "tiles", lambda *one: drawn.append(one[0].name) or whole(*one))
        said = done(run("eval.py", *words, "--report")).stdout
    page = own / "all_seed521.html"
    assert f"report: {page}" in said
    found = {"html": page.read_text(), "files": own / "all_seed521_report", "run": own, "words": words, "kinds": kinds}
    return SimpleNamespace(page=page, drawn=drawn, chapters=given[0], **found)


def test_a_report_needs_no_locale_of_utf_8(trained: SimpleNamespace, tmp_path: Path) -> None:
    """The page's parts are, whatever the system's encoding is: GBK, or ASCII as here."""
    words = ["--data_path", trained.data, *trained.named, "--model_path", trained.model, "--save_path", tmp_path]
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done(run_process("eval.py", *words, "--save_pic", "none", "--report", "zh", env=ascii_alone))
    [page] = tmp_path.glob("*/washer_seed521.html")
    assert "阈值" in page.read_text("utf-8")


class Elements(HTMLParser):
    """Start tags, and the text of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_page_stands_alone_and_names_are_text(report: SimpleNamespace) -> None:
    seen = Elements(report.html)
    assert [tag for tag, _ in seen.tags].count("script") == 1  # ours
    assert EVIL in seen.texts and ("option", {"value": EVIL}) in seen.tags
    for tag, values in seen.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert values.get(name, "#").startswith(("#", "data:")), (tag, values)
    assert not re.search(r"url\((?!#)|@import", report.html)
    ids = [values["id"] for _, values in seen.tags if "id" in values]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_the_tables_say(report: SimpleNamespace) -> None:
    texts = Elements(report.html).texts
    rows = table(report.run / "all_seed521.csv")
    assert [row["category"] for row in rows] == [*NAMES, "mean"]
    for row in rows:
        for figure in ("Image_AUROC", "Pixel_AUROC", "PRO_score", "PRO_score_0.05", "Image_AP", "Image_F1"):
            assert not row[figure] or f"{float(row[figure]):.4f}" in texts, (row["category"], figure)
    assert rows[1]["Image_AUROC"] == "" and "no such curve" in texts
    assert rows[2]["data_sha256"] in texts and rows[2]["command"] in texts
    assert read_header(report.run / "washer.safetensors", "model")["backbone"]["sha256"] in texts


def test_the_worst_are_those_of_the_table_and_nothing_is_drawn_twice(report: SimpleNamespace) -> None:
    articles = re.findall(r"<article.*?</article>", report.html, re.S)
    told = [re.search(r'class="file">([^<]*)<', article)[1] for article in articles]
    expected = []
    for name in NAMES:
        rows = table(report.run / name / "eval.csv")
        for bad in (True, False):
            side = [row for row in rows if (row["kind"] != "good") == bad]
            side.sort(key=lambda row: float(row["score"]) * (1 if bad else -1))
            wrong = [row for row in side if (row["defective"] == "1") != bad][:6] or side[:1]
            expected += ["/".join(Path(row["path"]).parts[-2:]) for row in wrong]
        assert (report.run / name / "eval_regions.csv").is_file()
    assert [text.replace("&lt;", "<").replace("&gt;", ">") for text in told] == expected
    assert all("data:image/webp" in article for article in articles)
    pictures = [row["path"] for name in NAMES for row in table(report.run / name / "eval.csv")]
    assert sorted(report.drawn) == sorted(pictures)


def test_curves_have_the_areas_of_the_figures(report: SimpleNamespace) -> None:
    rows = {row["category"]: row for row in table(report.run / "all_seed521.csv")}
    columns = {
        "roc": ("false_positive_rate", "true_positive_rate", "Image_AUROC", 1.0, 1e-6),
        "pro": ("false_positive_rate", "region_overlap", "PRO_score", 0.3, 1e-3),
    }
    for kind, (across, up, figure, limit, close) in columns.items():
        points = table(report.files / f"{kind}.csv")
        assert {row["category"] for row in points} == {EVIL, "washer"}
        for name in (EVIL, "washer"):
            x, y = np.array([(row[across], row[up]) for row in points if row["category"] == name], float).T
            area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit
            assert area == pytest.approx(float(rows[name][figure]), abs=close) and x[-1] == pytest.approx(limit)
        for place in (report.files, *(report.files / name for name in NAMES)):
            assert is_marked(place / f"{kind}.png")  # so it is never scored
    last = [row for row in table(report.files / "precision_recall.csv") if row["category"] == "washer"][-1]
    assert (last["precision"], last["recall"]) == ("1", "0")
    levels = table(report.files / "thresholds.csv")
    for row in levels:
        counts = [int(row[name]) for name in ("good", "false_alarms", "defective", "misses")]
        eval_rows = table(report.run / row["category"] / "eval.csv")
        assert counts[0] + counts[2] == len(eval_rows) and (row["best_f1_threshold"] == "") == (counts[2] == 0)
        assert counts[2] - counts[3] + counts[1] == sum(int(one["defective"]) for one in eval_rows)


def test_times_of_fit_and_evaluation(report: SimpleNamespace, trained: SimpleNamespace) -> None:
    rows = [row for row in table(report.files / "times.csv") if row["category"] == "washer"]
    assert [row["stage"] for row in rows if row["run"] == "fit"] == ["read", "features", "coreset", "calibration"]
    of_evaluation = {row["stage"]: float(row["seconds"]) for row in rows if row["run"] == "evaluation"}
    assert list(of_evaluation) == ["read", "search", "metrics", "total"]
    assert 0 < of_evaluation["search"] < of_evaluation["total"]
    others = {row["run"] for row in table(report.files / "times.csv") if row["category"] == "plain"}
    assert others == {"evaluation"} and "not recorded" not in report.html


def test_times_of_another_model_are_not_shown(trained: SimpleNamespace, tmp_path: Path) -> None:
    header = read_header(trained.model, "model")
    model = tmp_path / "washer.safetensors"
    assert read_times(model, header) == {}
    write_times(model, {"read": 1.25}, header, header["command"])
    assert read_times(model, header) == {"read": 1.25}
    assert read_times(model, {**header, "data": {**header["data"], "sha256": "0"}}) == {}
    (tmp_path / "washer/times.csv").write_text("stage,seconds\nread,x\n")
    assert read_times(model, header) == {}


def test_published_figures_are_those_of_the_docs() -> None:
    text = (ROOT / "docs/mvtec.md").read_text()
    sections = {"patchcore": "PatchCore", "padim": "PaDiM", "orthoad": "OrthoAD"}
    places: dict[str, int] = {}
    for one in json.loads(FILE.read_text()):
        column = places[one["method"]] = places.get(one["method"], 0) + 1
        section = text.split(f"## {sections[one['method']]}\n")[1].split("\n## ")[0]
        cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
        told = {re.sub(r" \(.*|\*", "", row[0].strip()): row[column].split("/") for row in cells[1:]}
        told = {name: [None if "–" in value else float(value) for value in pair] for name, pair in told.items()}
        assert told == {name: list(figures.values()) for name, figures in one["categories"].items()}
    model = {"method": "patchcore", "arch": "resnet18", "k": 3.0, "options": {}}
    assert published_for(model).categories["screw"]["Image_AUROC"] == 0.9385
    assert published_for(model).mean_of(["screw"]) == {} != published_for(model).mean_of(list(told)[:-1])
    assert published_for({**model, "arch": "compact"}) is None
    assert published_for({**model, "method": "orthoad", "arch": "wide_resnet50_2", "k": 290}).k == 300


@pytest.fixture(scope="module")
def bottle(report: SimpleNamespace) -> Path:
    """A page in Chinese about a category that figures were published of: the washer's, called bottle."""
    washer = report.chapters[-1]
    header = {**washer.header, "arch": "resnet18", "k": 10.0, "options": {}, "command": ""}
    named = replace(washer, outcome=replace(washer.outcome, name="bottle"), header=header)
    return write_page(report.run / "bottle_seed521.csv", [named], "zh")


def test_published_figures_stand_beside_own_on_a_chinese_page(bottle: Path, report: SimpleNamespace) -> None:
    seen = Elements(bottle.read_text())
    model = {"method": "patchcore", "arch": "resnet18", "k": 10.0, "options": {}}
    published = published_for(model).categories["bottle"]
    smalls = re.findall(r'data-value="([^"]*)">[^<]*<small title="([^"]*)">([^<]*)<', bottle.read_text())
    own = [f"{report.chapters[-1].outcome.row[name]:.4f}" for name in published]
    assert smalls == [
        (mine, TEXTS["published"][1], f"{theirs:.4f}") for mine, theirs in zip(own, published.values()) if theirs
    ]
    assert len(smalls) == 2 and "Anomaly.Paddle, patchcore resnet18 k 10." in " ".join(seen.texts)

    # all that is said is Chinese, but for names, commands, fingerprints and the names of figures
    assert ("html", {"lang": "zh-Hans"}) in seen.tags and TEXTS["worst_misses"][1] in seen.texts
    assert TEXTS["plot_recall"][1] in seen.texts and TEXTS["axis_alarms"][1] in seen.texts
    chapter = report.chapters[-1]
    names = {one.kind for one in chapter.outcome.pictures} | {"bottle", "PaddlePatch", "F1", "PRO", chapter.command}
    names |= {"/".join(one.path.parts[-2:]) for one in chapter.outcome.pictures}
    body = bottle.read_text().partition("<body>")[2].partition("<script>")[0]
    foreign = {text for text in Elements(body).texts if re.search("[A-Za-z]{2}", text) and text not in names}
    left = {text for text in foreign if not re.search("[\u4e00-\u9fff]", text)}
    known = r"AUROC [\d.]+|AU-PRO [\d.]+|AU\u2011PRO [\d.]+|AP [\d.]+|[0-9a-f]{64}|patchcore · .*|numpy .*|\*{stroke.*"
    assert [text for text in left if not re.fullmatch(known, text)] == []


def test_a_page_that_is_not_ours_stays(report: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "washer_seed521.html"
    page.write_text("mine")
    with pytest.raises(UserError, match="was not written by this program"):
        write_page(page.with_suffix(".csv"), report.chapters[-1:], "en")
    assert page.read_text() == "mine"


def test_a_threshold_is_told_as_elsewhere(report: SimpleNamespace) -> None:
    levels = report.chapters[0].outcome.levels
    labelled = {"goal": "f1", "good": 3, "defective": 4, "pictures": []}
    for one in (levels, levels.at(threshold=1.5), levels.set_by(2.0, labelled)):
        assert levels_text(one, words("en")) == str(one) and str(one.image_threshold)[:4] in levels_text(
            one, words("zh")
        )


def test_train_writes_it_too(trained: SimpleNamespace, tmp_path: Path) -> None:
    done(
        run(
            "train.py",
            *trained.words[:-1],
            tmp_path,
            "--save_model",
            "no",
            "--eval",
            "--report",
            "zh",
            "--save_pic",
            "no",
        )
    )
    text = (tmp_path / "patchcore_compact_2/washer_seed521.html").read_text()
    assert TEXTS["coreset"][1] in Elements(text).texts and TEXTS["not_recorded"][1] not in text
    assert TEXTS["no_heat_map"][1] in text
    of_both = [table(folder / "patchcore_compact_2/washer/eval.csv") for folder in (tmp_path, trained.output)]
    assert [row["score"] for row in of_both[0]] == [row["score"] for row in of_both[1]]


def test_what_a_report_needs(report: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(run("train.py", *report.words, "--report"), "--report has an effect only with --eval")
    refused(run("eval.py", *report.words, "--report", "fr"), "invalid choice")
    monkeypatch.setattr(evaluation.publish, "find_spec", lambda module: None)
    refused(run("eval.py", *report.words, "--report"), "--report needs matplotlib: pip install matplotlib")


def test_in_a_browser(report: SimpleNamespace, bottle: Path) -> None:
    """No error, no request, sorted and filtered by a click or a key, and no wider than a telephone."""
    pytest.importorskip("playwright.sync_api", reason="no playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url.split(":")[0]))
        page.goto(report.page.as_uri())
        names = page.locator("#figures tbody th")
        assert names.all_inner_texts() == NAMES
        column = page.locator("#figures th button")
        column.nth(0).click()
        column.nth(0).click()
        assert names.all_inner_texts() == NAMES[::-1]
        column.nth(1).click()  # image AUROC: plain has none, and is last both ways
        assert names.all_inner_texts()[-1] == "plain"
        figures = page.locator("#figures tbody td:nth-child(2)")
        assert figures.all_inner_texts()[:2] == sorted(figures.all_inner_texts()[:2])
        column.nth(1).click()
        assert figures.all_inner_texts()[:2] == sorted(figures.all_inner_texts()[:2], reverse=True)
        assert names.all_inner_texts()[-1] == "plain"
        # the same by keys alone: what has the focus shows it, headings take Enter and Space, the filter takes letters
        page.reload()
        page.locator("#kind").focus()
        focused = page.locator(":focus-visible")
        for what in ("div", "button", "button"):  # the table, which scrolls, and two of its headings
            page.keyboard.press("Tab")
            assert focused.evaluate("one => [one.localName, getComputedStyle(one).outlineStyle]") == [what, "solid"]
        assert focused.inner_text() == column.nth(1).inner_text()
        heading = page.locator("#figures th").nth(1)
        for key, order in (("Enter", "ascending"), ("Space", "descending"), ("Enter", "ascending")):
            page.keyboard.press(key)
            assert heading.get_attribute("aria-sort") == order and page.locator("[aria-sort]").count() == 1
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert names.all_inner_texts() == NAMES and heading.get_attribute("aria-sort") is None
        page.locator("#kind").focus()
        page.keyboard.type(EVIL)
        assert page.locator("#kind").input_value() == EVIL
        shown = page.locator("[data-kind]:visible")
        assert shown.count() and set(shown.evaluate_all("all => all.map(one => one.dataset.kind)")) == {EVIL}
        assert page.locator(".chapter:visible h2").all_inner_texts() == [EVIL]
        page.select_option("#kind", "")
        assert page.locator(".chapter:visible").count() == 3
        for width in (400, 1200):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert len(page.pdf(prefer_css_page_size=True)) > 10_000
        keep_screenshot(page, "report")
        page.goto(bottle.as_uri())
        own, theirs = (page.locator(f"#figures tbody td:nth-child(2){tail}") for tail in ("", " small"))
        assert theirs.is_visible() and theirs.inner_text() == "1.0000" != own.inner_text()
        keep_screenshot(page, "report_zh")
    assert said == [] and set(asked) <= {"file", "data"}


def test_a_category_has_one_colour_in_all_plots() -> None:
    points = np.array([0.0, 0.3]), np.array([0.0, 1.0])
    found = {"without masks": SimpleNamespace(roc=points, pro=None), "other": SimpleNamespace(roc=points, pro=points)}
    first, second = (f"stroke: {colour.lower()}" for colour in COLOURS[:2])
    roc, pro = (draw(found, Labels(words("en"))).svg for draw in (all_roc_plot, all_pro_plot))
    assert first in roc and second in roc and second in pro and first not in pro
