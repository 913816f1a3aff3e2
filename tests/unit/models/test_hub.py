"""Repositories of the model hub in its local cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from fdlab import assets
from fdlab.assets import hub
from fdlab.errors import UserError
from fdlab.models.backbone import load_backbone
from tests.worlds import tiny


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the repository some-one/tiny, laid out as the hub's own client does."""
    folder = tmp_path / "hub"
    commit = "0" * 40
    repository = folder / "models--some-one--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    tiny.write_backbone(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return repository / "snapshots" / commit


def test_a_repository_in_the_cache_is_a_backbone(cache: Path) -> None:
    loaded = load_backbone("some-one/tiny", parts=("unet", "vae"))
    assert loaded.folders["unet"] == cache / "unet"


def test_a_folder_that_is_here_wins(cache: Path) -> None:
    Path("some-one/tiny").mkdir(parents=True)
    assert assets.resolve("some-one/tiny") == Path("some-one/tiny")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("some-one/other", "hf download some-one/other --include"),
        ("models/stable-diffusion-v1-5", "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include"),
        ("some--one/..", "does not exist"),
        ("a/b/c", "does not exist"),
    ],
)
def test_what_is_not_here_comes_with_the_command_that_brings_it(cache: Path, given: str, said: str) -> None:
    with pytest.raises(UserError, match="does not exist") as raised:
        load_backbone(given)
    assert said in str(raised.value)
    assert ("hf download" in said) == ("hf download" in str(raised.value))


def test_what_a_half_copied_repository_lacks_comes_with_it_too(cache: Path) -> None:
    (cache / "vae/diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(cache / "unet")
    brings = r"get the rest: hf download some-one/tiny --include .*\.$"
    for parts, own, said in (
        (["vae"], {}, "has no weights"),
        (["unet"], {}, "no unet in"),
        (["unet"], {"unet": cache / "unet"}, "unet folder '.*' does not exist"),
    ):
        with pytest.raises(UserError, match=rf"{said}.*{brings}"):
            load_backbone("some-one/tiny", own, parts)


def test_the_command_names_what_a_backbone_is_read_from() -> None:
    how = hub.how_to_get("models/clip-vit-large-patch14")
    assert how.startswith("hf download openai/clip-vit-large-patch14 ") and "--local-dir models/clip" in how
    assert "--include '*/diffusion_pytorch_model.safetensors'" in how and ".bin" not in how
