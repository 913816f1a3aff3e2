"""How long a core is busy with one sample at nano's size, by how it is loaded: written to results.json.

    python -m fdlab data render FOLDER --mix aligned-portraits --num 128
    python experiments/loading_speed/core_time.py FOLDER

Time of cores, not of the clock: what else runs on a machine changes it little.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fdlab.caches.prepare import prepare
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Live, Shape
from fdlab.data.layout import read_ids
from fdlab.files import write_json
from fdlab.measure.faces import FaceDetector, HeadCrop, SubjectFaces
from fdlab.measure.faces.remembered import RememberingDetector
from fdlab.models.backbone import Backbone, load_backbone
from fdlab.training.faces import teacher
from fdlab.training.loading import STRONG
from fdlab.transforms.framing import Framing

BATCH, COUNTED, REFERENCE = 32, 3, 96
LATER = 4
"""Batches after which the 128 pictures have all been seen."""
RANDOM = Framing("random")


def core_ms(source: Any, skipped: int = 0, **more: Any) -> float:
    """Milliseconds of a core for each sample, behind a first batch and `skipped` others."""
    given = {
        "seed": 1,
        "batch_size": BATCH,
        "max_subjects": 2,
        "reference_size": REFERENCE,
        "skip_corrupt": True,
    }
    batches = Batches(source, BatchSettings(**given | more), skipped + COUNTED + 1)  # type: ignore[arg-type]
    for step in range(skipped + 1):
        batches[step]
    began = time.process_time()
    for step in range(skipped + 1, skipped + COUNTED + 1):
        batches[step]
    return 1000 * (time.process_time() - began) / (BATCH * COUNTED)


def measure(root: Path, backbone: Backbone, cache: Path) -> dict[str, float]:
    """Every way of loading, and its milliseconds."""
    ids, words = read_ids(root), backbone.tokenizer
    captions = Shape(int(backbone.image_size), backbone.latent_shape_CHW, None, 0)
    people = Shape(int(backbone.image_size), backbone.latent_shape_CHW, REFERENCE, 2)

    def live(shape: Shape, **more: Any) -> Live:
        return Live(root, ids, words, shape, **more)

    kept = prepare(root, cache, backbone.vae, words, people)
    alone: dict[str, Any] = {"max_subjects": 0, "reference_size": None}
    mixed: dict[str, Any] = {"reference": "mixed", "own_share": 0.3}
    return {
        "cached, SDM": core_ms(kept),
        "cached, SDM, augmented": core_ms(kept, augment=STRONG),
        "read anew, TDM": core_ms(live(captions), **alone),
        "read anew, TDM, random crop": core_ms(live(captions, framing=RANDOM), **alone),
        "read anew, SDM": core_ms(live(people)),
        "read anew, SDM, random crop, augmented": core_ms(live(people, framing=RANDOM), augment=STRONG),
        "read anew, SDM, references cut by the face": core_ms(live(people, crop=_crop())),
        "the same, later epochs": core_ms(live(people, crop=_crop()), LATER),
        "read anew, SDM, faces cut and recognised": core_ms(live(people, **_faces()), **mixed),
        "the same, later epochs (faces recognised)": core_ms(live(people, **_faces()), LATER, **mixed),
    }


def _crop() -> HeadCrop:
    """One that has seen nothing."""
    return HeadCrop(RememberingDetector(FaceDetector()))


def _faces() -> dict[str, Any]:
    """As `+exp=sdm`: a crop and a recogniser with one detector."""
    detector = RememberingDetector(FaceDetector())
    return {"crop": HeadCrop(detector), "reader": SubjectFaces(teacher("faceres", None), detector)}


def main() -> None:
    """Measure and print."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    unet = {"unet": "asset:nano/base/unet"}
    backbone = load_backbone("asset:nano", unet, ("vae", "tokenizer"), image_size=128)
    with tempfile.TemporaryDirectory() as cache:
        found = measure(Path(sys.argv[1]), backbone, Path(cache))
    for name, value in found.items():
        print(f"{name:<44}{value:8.2f} ms of a core, {2000 / value:7.0f} samples/s on two")
    write_json(Path(__file__).with_name("results.json"), {"ms_of_a_core": found, "batch_size": BATCH})


if __name__ == "__main__":
    main()
