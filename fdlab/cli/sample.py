"""`fdlab sample`: draw given people in a new scene."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.cli.options import configurable, print_config
from fdlab.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from fdlab.evaluation.benchmarks import Subject
    from fdlab.evaluation.generation import Job

EXAMPLE = """python -m fdlab sample 'prompt=a woman <|image|> reading a book' 'subjects=[a.jpg]'
         python -m fdlab sample 'prompt=a man in a snowy forest' sampler=tdm num_images=4"""
_MARGIN = 1.1
"""How much more than the face the square around it shows, in sides of the face: hair and shoulders."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable("sample", "Draw given people in a new scene.", EXAMPLE)
    arguments = parser.parse_intermixed_args(argv)
    from fdlab.config.compose import compose

    cfg = compose([_quoted(line) for line in arguments.overrides], config_name="sample")
    if arguments.cfg:
        print_config(cfg)
        return 0
    for path in draw(cfg):
        print(path)
    return 0


def draw(cfg: Any) -> list[Path]:
    """Draw what `cfg` asks for into `cfg.out`; returns the pictures' paths. Raises: UserError."""
    from fdlab.config.provenance import config_sha256
    from fdlab.data.captions import parse
    from fdlab.diffusion import guiders
    from fdlab.evaluation.benchmarks import Benchmark
    from fdlab.evaluation.generation import generate
    from fdlab.evaluation.methods import Sampled
    from fdlab.evaluation.rows import load, plain, weights
    from fdlab.files import write_json

    num_markers = len(parse(cfg.prompt)[1])
    if num_markers != len(cfg.subjects):
        raise UserError(
            f"the prompt has {num_markers} markers <|image|>, but {len(cfg.subjects)} subjects are given; "
            "write one marker behind the words of each subject."
        )
    if num_markers > cfg.data.max_subjects:
        raise UserError(
            f"the prompt has {num_markers} subjects; at most {cfg.data.max_subjects} are allowed,"
            " as many as the models learnt to tell apart (data.max_subjects)."
        )
    out, device = Path(cfg.out), _device()
    sampler, needed = plain(cfg.sampler), guiders.needs(cfg.sampler.guider)
    if num_markers and "sdm" not in needed:
        raise UserError(
            f"sampler '{sampler['guider']}' draws no given subject; choose another, as in sampler=snf_demo."
        )
    if not num_markers and "sdm" in needed:
        raise UserError(
            f"sampler '{sampler['guider']}' draws given subjects, and the prompt has no marker <|image|>; "
            "write one and give subjects=[a.jpg], or choose sampler=tdm."
        )
    for photo in cfg.subjects:
        if not Path(photo).expanduser().is_file():
            raise UserError(f"photo '{photo}' does not exist.")
    found = {kind: weights(cfg, kind, cfg[kind]) for kind in needed}
    for kind, model in found.items():
        if model is None:
            raise UserError(
                f"no {kind.upper()} ships for backbone '{cfg.backbone.name}'; give one as {kind}=FOLDER."
            )
    models = {kind: load(cfg, model, kind, device) for kind, model in found.items() if model is not None}
    subjects = tuple(
        _subject(out, index, Path(photo).expanduser()) for index, photo in enumerate(cfg.subjects)
    )
    scene = Benchmark(out, "sample", "1", cfg.backbone.image_size, cfg.seed, cfg.num_images, subjects, ())
    method = Sampled(scene, sampler, background=cfg.data.background, device=device, **models)
    jobs = _jobs(cfg, subjects)
    used = {kind: model.describe() for kind, model in found.items() if model is not None}
    settings = {
        "prompt": cfg.prompt,
        "sampler": sampler,
        "seed": cfg.seed,
        "config": config_sha256(cfg),
        **used,
    }
    paths = generate(jobs, method, out / "images", settings)
    entries = [{"file": f"images/{job.file}", "prompt": job.text, "seed": job.seed} for job in jobs]
    write_json(
        out / "samples.json",
        {**settings, "subjects": list(cfg.subjects), "generated": True, "images": entries},
    )
    return [*paths, out / "samples.json"]


def _jobs(cfg: Any, subjects: tuple[Subject, ...]) -> list[Job]:
    from fdlab.evaluation.benchmarks import Prompt
    from fdlab.evaluation.generation import Job
    from fdlab.randomness import derive

    prompt = Prompt("p00", cfg.prompt)
    return [
        Job(subjects, prompt, i, derive(cfg.seed, "sample", i), cfg.prompt) for i in range(cfg.num_images)
    ]


def _subject(out: Path, index: int, photo: Path) -> Subject:
    """Find the largest face of a photo and write the square around it where the sampler looks for it."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    from fdlab.evaluation.benchmarks import Subject
    from fdlab.evaluation.faces import FaceDetector, largest
    from fdlab.evaluation.generation import write_png

    try:
        with Image.open(photo) as opened:
            image_HW3 = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"photo '{photo}' cannot be read as a picture.") from error
    face = largest(FaceDetector()([image_HW3])[0])
    if face is None:
        raise UserError(f"no face found in photo '{photo}'; give one in which a face can be seen well.")
    name = f"references/s{index:02d}.png"
    write_png(out / name, _around(image_HW3, face.box))
    return Subject(f"s{index:02d}", "person", (name,))


def _around(image_HW3: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The square around a face, as far as the picture reaches."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) * (0.5 + _MARGIN / 2)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = image_HW3.shape[:2]
    top, bottom = round(max(0, y - half)), round(min(height, y + half))
    left, right = round(max(0, x - half)), round(min(width, x + half))
    return image_HW3[top:bottom, left:right].copy()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _quoted(line: str) -> str:
    """A prompt is plain text: quote it, so that Hydra's grammar finds nothing in it to read."""
    key, equals, text = line.partition("=")
    if key != "prompt" or not equals or text[:1] in ("'", '"'):
        return line
    # In that grammar backslashes count only where a quote, or the end, follows.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"prompt='{escaped}'"
