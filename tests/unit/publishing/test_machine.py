"""What is published names no folder of the machine that made it."""

from __future__ import annotations

import pytest

from fdlab.publishing import machine


def test_settings_name_the_key_and_not_the_folder() -> None:
    found = machine.settings({
        "paths.runs": "/data/me/runs", "paths.cache": "/data/me", "data.root": "/data/me/people",
        "sdm": "/data/me/runs/sdm/a", "tdm": "/home/ann.b/model", "benchmark.folder": "/data/mean/x",
        "name": "a/home/b", "sampler.num_steps": "12",
    })  # fmt: skip
    assert found == {
        "data.root": "${paths.cache}/people", "sdm": "${paths.runs}/sdm/a", "tdm": "~/model",
        "benchmark.folder": "/data/mean/x", "name": "a/home/b", "sampler.num_steps": "12",
    }  # fmt: skip


def test_folders_that_are_relative_replace_nothing() -> None:
    assert machine.settings({"paths.runs": "runs", "sdm": "runs/sdm/a"}) == {"sdm": "runs/sdm/a"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("paths.runs=/root/runs", ""),
        ("sdm=/root/x/model", "'sdm=~/x/model'"),
        ("/Users/ann/photos", "'~/photos'"),
        ("name=a b", "'name=a b'"),
        ("data.root=/rooted/x", "data.root=/rooted/x"),
    ],
)
def test_a_command_goes_where_its_reader_wants(word: str, said: str) -> None:
    assert machine.command(["python", word]) == f"python {said}".strip()
