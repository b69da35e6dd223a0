"""README and notebook in Chinese say what the English ones say: the same headings, commands, tables and links."""

from __future__ import annotations

import json
import re

import pytest
from conftest import ROOT

pytestmark = pytest.mark.once
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_cn.md"))
OWN = {"README.md", "README_cn.md"}  # the pages link each other


def fenced(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.M | re.S)


def parts(text: str) -> dict[str, list]:
    """What translation leaves alone. test_readme.py runs README.md's commands; equal ones need no run of their own."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    tables = re.findall(r"(?:^\|.*\|\n)+", prose, re.M)
    return {
        "headings": [len(marks) for marks in re.findall(r"^(#+) ", prose, re.M)],
        "blocks": fenced(text),
        "indented blocks": re.findall(r"(?:^    .*\n)+", prose, re.M),
        "tables": [[row.count("|") for row in table.splitlines()] for table in tables],
        "links": [link for link in re.findall(r"\]\(([^)]+)\)", prose) if link not in OWN],
        "list items": re.findall(r"^(?:- |\d+\. )", prose, re.M),
    }


def unordered(text: str) -> dict[str, list]:
    """What a sentence of another language may say in another order: code, and numbers with a point."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    code = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
    return {"code": sorted(code), "numbers": sorted(re.findall(r"(?<![\d.])\d*\.\d+", prose))}


@pytest.mark.parametrize("part", parts(README))
def test_the_chinese_readme_has_the_same(part: str) -> None:
    assert parts(README)[part], "or the test looks for nothing"
    assert parts(CHINESE)[part] == parts(README)[part]


@pytest.mark.parametrize("part", ["code", "numbers"])
def test_it_names_the_same(part: str) -> None:
    assert unordered(README)[part] and unordered(CHINESE)[part] == unordered(README)[part]


def test_it_is_chinese_and_linked() -> None:
    assert "[中文](README_cn.md)" in README[:100] and "[English](README.md)" in CHINESE[:100]
    prose = re.sub(r"^(```.*?^```|    .*)$|`[^`]+`|\]\([^)]+\)", "", CHINESE, flags=re.M | re.S)
    for paragraph in re.split(r"\n\s*\n", prose)[1:]:
        words = re.sub(r"\W|[\d_]", "", paragraph)
        assert not words or re.search(r"[\u4e00-\u9fff]", words), paragraph


def test_the_chinese_notebook_is_the_same_program() -> None:
    """test_notebook.py runs the English one; equal cells need no run of their own."""
    names = "paddlepatch.ipynb", "paddlepatch_cn.ipynb"
    english, chinese = (json.loads((ROOT / "docs" / name).read_text(encoding="utf-8")) for name in names)
    assert len(english["cells"]) == len(chinese["cells"]) > 9
    for ours, theirs in zip(english["cells"], chinese["cells"]):
        told, translated = ("".join(cell["source"]) for cell in (ours, theirs))
        assert theirs["cell_type"] == ours["cell_type"]
        if ours["cell_type"] == "code":
            assert theirs == ours
            continue
        heading = re.match("#+ ", told)[0]
        assert translated.startswith(heading) and re.search(r"[\u4e00-\u9fff]", translated)
        assert unordered(translated) == unordered(told)
        assert translated.count("\n\n") == told.count("\n\n")
