"""Files of prompts: what they say, and what is said of a bad row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.sampling.prompts_file import read

ADA, BEN = "a woman <|image|>", "a man <|image|>"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_jsonl_say_the_same(tmp_path: Path) -> None:
    text = (
        "\ufeffprompt,subjects,seed,face\r\n"
        f'"{ADA}, reading",ada.jpg,,\r\n'
        "\r\n"
        f"{ADA} and {BEN},sub/ada.jpg; /abs/ben.png ,7,1;0\r\n"
        f"{ADA} and {BEN},ada.jpg;ben.jpg,,;2\r\n"
        '"two\nlines",,,\r\n'
        "after,,3,\r\n"
    )
    rows = [
        {"prompt": f"{ADA}, reading", "subjects": "ada.jpg"},
        {
            "prompt": f"{ADA} and {BEN}",
            "subjects": ["sub/ada.jpg", "/abs/ben.png"],
            "seed": 7,
            "face": [1, 0],
        },
        {"prompt": f"{ADA} and {BEN}", "subjects": ["ada.jpg", "ben.jpg"], "face": [None, 2], "seed": None},
        {"prompt": "two\nlines"},
        {"prompt": "after", "subjects": [], "seed": 3},
    ]
    from_csv = read(write(tmp_path, "a.csv", text))
    from_json = read(write(tmp_path, "a.JSONL", "\n".join(json.dumps(row) for row in rows) + "\n\n"))
    for one, other in zip(from_csv, from_json, strict=True):
        assert (one.prompt, one.photos, one.seed, one.faces) == (
            other.prompt,
            other.photos,
            other.seed,
            other.faces,
        )
    assert from_csv[1].photos == (tmp_path / "sub/ada.jpg", Path("/abs/ben.png"))
    assert from_csv[1].faces == (1, 0) and from_csv[2].faces == (None, 2) and from_csv[0].faces is None
    # As an editor counts them, though a cell of the one before holds a line end.
    assert [row.where.rpartition(" ")[2] for row in from_csv] == ["2", "4", "5", "6", "8"]


HEAD = "prompt,subjects,seed,face\n"
BAD = [
    ("a.csv", "", "has no prompt"),
    ("a.csv", HEAD, "has no prompt"),
    ("a.jsonl", "\n\n", "has no prompt"),
    ("a.csv", "prompt,subject\nx,\n", "a.csv, line 1: 'subject'; allowed: .* Did you mean 'subjects'"),
    ("a.csv", "subjects,seed\n", "a.csv, line 1: no column 'prompt'; given: subjects, seed"),
    ("a.csv", "prompt,seed,seed\nx,1,2\n", "a.csv, line 1: a column is there twice"),
    ("a.csv", "prompt,seed\nx,1\na, b, c\n", "a.csv, line 3: 3 cells, but 2 columns; put text with a comma"),
    ("a.csv", HEAD + ",a.jpg,,\n", "a.csv, line 2: prompt is null"),
    ("a.csv", HEAD + "x,,1.5,\n", 'a.csv, line 2: seed is "1.5"'),
    ("a.csv", HEAD + "x,,-1,\n", 'a.csv, line 2: seed is "-1"'),
    ("a.csv", HEAD + "x,,\u00b2,\n", "a.csv, line 2: seed is"),
    ("a.csv", HEAD + "x,,,left\n", "a.csv, line 2: face is"),
    ("a.csv", HEAD + "x,a.jpg;;b.jpg,,\n", "a.csv, line 2: subjects are"),
    ("a.csv", HEAD + 'x\n"y" z\n', "a.csv, line 3: not CSV"),
    ("a.csv", HEAD + 'x\n"y\n', "a.csv, line .: not CSV"),
    ("a.jsonl", '{"prompt": "x"}\n{"prompt": \n', "a.jsonl, line 2 is not valid JSON"),
    ("a.jsonl", '["x"]\n', "a.jsonl, line 1: an object"),
    ("a.jsonl", '{"promt": "x"}\n', "a.jsonl, line 1: 'promt'; .* Did you mean 'prompt'"),
    ("a.jsonl", '{"prompt": 3}\n', "a.jsonl, line 1: prompt is 3"),
    ("a.jsonl", '{"prompt": "x", "seed": true}\n', "a.jsonl, line 1: seed is true"),
    ("a.jsonl", '{"prompt": "x", "face": -1}\n', "a.jsonl, line 1: face is -1"),
    ("a.jsonl", '{"prompt": "x", "subjects": {"a": 1}}\n', "a.jsonl, line 1: subjects are"),
    ("a.txt", "x\n", "unknown kind of prompts file 'a.txt'.*allowed: csv, jsonl"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_bad_rows_are_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read(write(tmp_path, name, text))


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv' does not exist"):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "a.csv").write_bytes(b"prompt\n\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read(tmp_path / "a.csv")
