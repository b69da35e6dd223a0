"""Several models by one process: each answers as alone, and programs are shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deploy import Runtime, UserError
from deploy.pictures.decode import Encoded
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
        model._owner = owner[number :: number + 1]
        model.load_statistics(model._tables(np.array(bank[number :: number + 1]), mean))
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
