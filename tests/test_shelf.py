"""Several models by one process: each answers as alone, and programs are shared."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fastapi import HTTPException, Request

from deploy import Runtime, UserError
from deploy.pictures.decode import Encoded, encode_png
from deploy.serve.bodies import Bodies
from deploy.serve.model import ModelProcess
from deploy.serve.scorer import Scorer
from deploy.serve.settings import Job, named
from deploy.serve.shelf import Shelf
from deploy.serve.worker import UNLOADED, answers
from deploy.storage.tensors import read_tensors, write_tensors
from models import load_model

pytestmark = pytest.mark.once
NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def folder(trained: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of three models of one program: with all rows of the bank, and with fewer."""
    folder, model = tmp_path_factory.mktemp("exports"), load_model(trained.model)
    bank, mean, owner = model.fitted["memory_bank"], model.fitted["bank_mean"], model._owner
    for number, name in enumerate(NAMES):
        shutil.copytree(trained.export, folder / name)
        some = slice(number, None, number + 1)
        model._owner = owner[some]
        model.load_statistics(model._tables(np.array(bank[some]), mean, owner[some]))
        model.describe_fit()
        header = read_tensors(folder / name / "stats", "stats")[1]
        write_tensors(folder / name / "stats", model.tensors(), header)
    return folder


def jobs(folder: Path) -> dict[str, Job]:
    [files] = named([str(folder)]).values()
    return {name: Job(file, None, None, Runtime(), None, None, 0, 8, 0) for name, file in files.items()}


def test_each_answers_as_alone(folder: Path, trained: SimpleNamespace) -> None:
    picture = Encoded("sent", next((trained.data / "washer/test/good").iterdir()).read_bytes())
    known = {
        name: Shelf({name: job}, 1).take(name)[0].answers([picture], [False]) for name, job in jobs(folder).items()
    }
    assert len({answer.body for [answer] in known.values()}) == 3
    shelf, dropped = Shelf(jobs(folder), 2), []
    for name in ("first", "second", "first", "third", "third", "second", "first"):
        found, load = answers(shelf, name, [picture], [False])
        assert found == known[name], name
        dropped.append(load and load.dropped)
    assert dropped == [[], [], None, ["second"], None, ["first"], ["third"]]
    assert len(shelf._programs) == 1
    second, first = shelf.take("second")[0].predictor, shelf.take("first")[0].predictor
    assert second.program is first.program
    [own], [other] = (list(one.clone().predict([picture], 1, 0)) for one in (second, first))
    assert own.score != other.score, "a clone has its model's statistics, whichever model the program was used for last"
    assert json.loads(known["second"][0].body)["score"] == own.score


def test_one_that_cannot_be_loaded_costs_the_others_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    broken, all_jobs = folder / "second/stats", jobs(folder)
    content = broken.read_bytes()
    broken.write_bytes(content[:-1])
    try:
        shelf = Shelf(all_jobs, 2)
        [answer], load = answers(shelf, "second", [Encoded("sent", b"")], [False])
        assert answer.status == 500 and UNLOADED in answer.body.decode() and load is None
        assert "error: model second" in capsys.readouterr().err
        assert answers(shelf, "first", [Encoded("sent", b"")], [False])[0][0].status == 400
    finally:
        broken.write_bytes(content)


def test_a_folder_names_its_models(folder: Path, tmp_path: Path) -> None:
    assert named([str(folder)]) == {str(folder): {name: str(folder / name / "stats") for name in NAMES}}
    with pytest.raises(UserError, match="no export's stats file below"):
        named([str(tmp_path)])
    with pytest.raises(UserError, match="leave out x="):
        named([f"x={folder}"])
    with pytest.raises(UserError, match="two models are called third"):
        named([str(folder), f"third={folder}/first/stats"])


def test_in_one_run_everybody_gets_the_answer_to_the_own_picture(folder: Path, trained: SimpleNamespace) -> None:
    paths = sorted((trained.data / "washer/test").rglob("*.png"))[:3]
    sent = [Encoded("sent", data) for data in (b"no picture", *(path.read_bytes() for path in paths))]
    scorer = Scorer(jobs(folder)["first"], {})
    alone = [json.loads(scorer.answers([one], [False])[0].body) for one in sent]
    answers = scorer.answers(sent, [False, True, False, True])
    assert [answer.status for answer in answers] == [400, 200, 200, 200]
    found = [json.loads(answer.body) for answer in answers]
    assert ["heat_map" in one for one in found] == [False, True, False, True]
    for one, known in zip(found[1:], alone[1:]):
        assert one["score"] == pytest.approx(known["score"], rel=1e-5)
    assert len({one["score"] for one in alone[1:]}) == 3


def test_an_answer_is_of_the_jobs_threshold_and_least_area_and_the_pictures_own_size(
    folder: Path, trained: SimpleNamespace
) -> None:
    picture = cv2.imread(str(next((trained.data / "washer/test/good").iterdir())))
    sent = [Encoded("sent", encode_png(cv2.resize(picture, (300, 200))))]
    usual = jobs(folder)["first"]

    def answer(**changed: object) -> dict:
        return json.loads(Scorer(replace(usual, **changed), {}).answers(sent, [False])[0].body)

    low = answer(threshold=-0.5)
    areas = [region["area"] for region in low["regions"]]
    assert (low["height"], low["width"]) == (200, 300) and low["defective"] and areas
    most = max(areas)
    assert [region["area"] for region in answer(threshold=-0.5, least_area=most - 1)["regions"]] == [most]
    assert answer(threshold=-0.5, least_area=most + 1)["regions"] == []
    assert [answer(false_alarm=rate)["defective"] for rate in (0.001, 0.999)] == [False, True]


def test_a_batch_is_of_one_model_and_of_those_that_wait_longest(folder: Path) -> None:
    small = {name: replace(job, batch_size=2) for name, job in jobs(folder).items()}
    process = ModelProcess("folder", small, 2, None)
    for number, name in enumerate(("first", "second", "first", "first", "third")):
        process.submit(name, bytes([number]), False)
    assert [[request.picture[0] for request in process._take()] for _ in range(4)] == [[0, 2], [1], [3], [4]]


def test_bodies_are_limited_one_by_one_and_together() -> None:
    bodies = Bodies(most=10, most_held=25)

    def request(*parts: bytes) -> Request:
        sent = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        sent.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> dict:
            return sent.pop(0)

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def status(*parts: bytes) -> int:
        try:
            async with bodies.receive(request(*parts)) as body:
                return len(body)
        except HTTPException as error:
            return error.status_code

    async def together() -> None:
        assert await status(b"x" * 6, b"x" * 4) == 10 and await status(b"x" * 6, b"x" * 5) == 413
        async with bodies.receive(request(b"x" * 10)), bodies.receive(request(b"x" * 10)):
            assert bodies.held == 20 and await status(b"x" * 5) == 5
            assert await status(b"x" * 5, b"x") == 429 and bodies.held == 20

    asyncio.run(together())
    assert bodies.held == 0
