"""Damaged model folders: each reader reads them, or says one line; it ends, and writes nothing elsewhere.

Damage: flipped, cut and added bytes; JSON values of another type, missing, or nested deep; files gone, or
folders in their place. A few a reader are tried by default; `FDLAB_DAMAGED=2000` in the environment tries as
many.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdlab.errors import UserError
from fdlab.exchange.contents import describe
from fdlab.exchange.released import import_folder, join, read_flat, split
from fdlab.models import finetuned
from fdlab.models.backbone import load_backbone, save_backbone
from fdlab.models.judge import Judge, build_clip
from fdlab.models.parts import load_part
from fdlab.models.tokenizer import load_tokenizer
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from tests.worlds.backbones import tiny_backbone

SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.integers(-2, 100), st.floats(),
    st.text(max_size=9), st.sampled_from(["../../x", "float16", "CLIPTextModel", "DownBlock2D", "epsilon"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every node of a JSON value but its root, at most some hundred a level."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(inside)[:200]:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def damaged_json(draw: st.DrawFn, data: bytes) -> bytes:
    value = json.loads(data)
    path = draw(st.sampled_from(list(places(value)) or [()]))
    at = value
    for key in path[:-1]:
        at = at[key]
    kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "nest"]))
    if not path:
        value = draw(VALUES)
    elif kind == "remove":
        del at[path[-1]]
    elif kind == "nest":
        depth = draw(st.sampled_from([1, 5, 40, 5000]))
        # json.dumps would not go as deep as a hand can write.
        at[path[-1]] = "NESTED"
        return json.dumps(value).encode().replace(b'"NESTED"', b"[" * depth + b"]" * depth)
    else:
        at[path[-1]] = draw(VALUES)
    return json.dumps(value).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    size = len(data)
    near = st.integers(0, max(0, min(size, draw(st.sampled_from([8, 200, size]))) - 1))
    kind = draw(st.sampled_from(["flip", "flip", "cut", "add", "remove", "other"]))
    if kind == "cut" or not size:
        return data[: draw(st.integers(0, size))]
    if kind == "other":
        others = (b"", b"null", b"[]", b"[" * 100_000, b"9" * 6000, b"\xff\xfe\x00", b"\x80\x04.")
        return draw(st.sampled_from(others))
    start = draw(near)
    if kind == "add":
        return data[:start] + draw(st.binary(min_size=1, max_size=16)) + data[start:]
    if kind == "remove":
        return data[:start] + data[start + draw(st.sampled_from([1, 8, 500])) :]
    changed = bytearray(data)
    for place in {start, *draw(st.lists(near, max_size=4))}:
        changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _folder(root: Path) -> Path:
    save_backbone(root / "folder", tiny_backbone())
    return root / "folder"


def _part(part: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        return shutil.copytree(_folder(root) / part, root / part)

    return write


def _flat(zipped: bool) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        state = join({part: net.state_dict() for part, net in tiny_backbone().networks().items()})
        (root / "flat").mkdir()
        some = dict(list(state.items())[::20])
        torch.save(some, root / "flat/pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        return root / "flat"

    return write


def _pickled(root: Path) -> Path:
    folder = root / "pickled"
    shutil.copytree(_folder(root) / "fusion", folder / "fusion")
    (folder / "fusion/diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny_backbone().fusion.state_dict(), folder / "fusion/diffusion_pytorch_model.bin")
    return folder


def _sharded(root: Path) -> Path:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(_folder(root) / "fusion", root / "sharded")
    whole = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(whole)
    whole.unlink()
    shards = {name: f"diffusion_pytorch_model-{len(name) % 2}.safetensors" for name in state}
    for shard in set(shards.values()):
        save_file({name: tensor for name, tensor in state.items() if shards[name] == shard}, folder / shard)
    index = {"metadata": {}, "weight_map": shards}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _pipeline(root: Path) -> Path:
    pipeline = FaceDiffuserPipeline.from_backbones(tdm=tiny_backbone())
    pipeline.save_pretrained(root / "pipeline")
    return root / "pipeline"


def _facts(root: Path) -> Path:
    (root / "facts").mkdir()
    facts = {"steps": 5, "steps_of_this_run": 5, "kind": "sdm", "init": "base", "seed": 0, "averaged": True}
    (root / "facts/training.json").write_text(json.dumps(facts))
    return root / "facts"


def _judge(root: Path) -> Path:
    folder = _folder(root) / "tokenizer"
    clip = build_clip(load_tokenizer(folder), 0, {**SMALL, "image_size": 16, "patch_size": 8}, SMALL)
    Judge(clip, {"style": ["photograph", "watercolor"]}).save(root / "judge", folder)
    return root / "judge"


def _resave(folder: Path) -> None:
    save_backbone(folder.parent / "again", load_backbone(folder, parts=["tokenizer", "scheduler"]))


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    **{
        part: (_part(part), lambda folder, part=part: load_part(part, folder, {}))
        for part in ("vae", "text_encoder", "image_encoder", "unet", "fusion", "tokenizer", "scheduler")
    },
    "a model": (_folder, load_backbone),
    "a model, written again": (_folder, _resave),
    "a model's shards": (_sharded, lambda folder: load_part("fusion", folder, {})),
    "checkpoint info": (_folder, describe),
    "checkpoint import, a folder": (_pickled, import_folder),
    "a flat file": (_flat(True), lambda folder: split(read_flat(folder / "pytorch_model.bin"))),
    "an old flat file": (_flat(False), lambda folder: split(read_flat(folder / "pytorch_model.bin"))),
    "training.json": (_facts, finetuned.facts),
    "judge": (_judge, Judge.load),
    "a pipeline": (_pipeline, FaceDiffuserPipeline.from_pretrained),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_one_line(reader: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    write, read = READERS[reader]
    root = tmp_path_factory.mktemp("damaged")
    sound = write(root)
    read(shutil.copytree(sound, root / "sound" / "model"))
    files = sorted(path.relative_to(sound) for path in sound.rglob("*") if path.is_file())
    kept = {file: (sound / file).read_bytes() for file in files}

    @settings(
        max_examples=int(os.environ.get("FDLAB_DAMAGED", "6")),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        place = root / "work"
        shutil.rmtree(place, ignore_errors=True)
        folder = shutil.copytree(sound, place / "model")
        file = data.draw(st.sampled_from(files))
        how = data.draw(st.sampled_from(["json", "json", "json", "bytes", "bytes", "gone", "folder", "loop"]))
        if how in ("gone", "folder", "loop"):
            (folder / file).unlink()
            if how == "folder":
                (folder / file).mkdir()
            if how == "loop":
                (folder / file).symlink_to(folder / file)
        else:
            kind = damaged_json if how == "json" and file.suffix == ".json" else damaged_bytes
            (folder / file).write_bytes(data.draw(kind(kept[file])))
        try:
            read(folder)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 1500
        assert {path.name for path in place.iterdir()} <= {"model", "again"}

    damage()


def test_a_shard_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    folder = _sharded(tmp_path)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    for name in ("../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", "", 5, None):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(UserError, match=r"weight_map is .*; allowed: names of"):
            load_part("fusion", folder, {})


def test_a_tensor_that_a_saved_pipeline_lacks_is_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = _pipeline(tmp_path) / "tdm_unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["conv_in.bias"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"tensor 'conv_in\.bias' \(16,\) is not in it"):
        FaceDiffuserPipeline.from_pretrained(tmp_path / "pipeline")
