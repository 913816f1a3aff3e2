"""`fdlab doctor` says what is here and what is not."""

from __future__ import annotations

import pytest

from fdlab import assets
from fdlab.__main__ import main
from fdlab.assets import hub


def test_it_says_versions_devices_and_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assets, "verify", lambda: [])
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch" in shown and "cpu" in shown and "all that ships is here" in shown
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include '*.json'" in shown


def test_a_damaged_file_is_named_and_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        assets, "verify", lambda: ["faces/x.safetensors: changed; its sha256 is not the manifest's"]
    )
    monkeypatch.setattr(assets, "manifest", lambda: {"faces/x.safetensors": {"licence": "MIT"}})
    assert main(["doctor"]) == 1
    assert "DAMAGED" in capsys.readouterr().out


def test_how_to_get_names_the_folders_that_the_configuration_expects() -> None:
    from fdlab.config.compose import compose

    expected = {
        v for name in ("sd15", "sd21", "sdxl", "sd3") for v in compose([f"backbone={name}"]).backbone.values()
    }
    assert set(hub.DOWNLOADS) <= expected
