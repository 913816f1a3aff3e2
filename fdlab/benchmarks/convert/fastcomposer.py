"""FastComposer's benchmarks (arXiv 2305.10431) from a checkout of its code: nothing of them ships.

The user exports the prompts with `EXPORT` in the checkout, so that no code of others runs here; what they
exported is compared with the digest of the published prompts. The photos are not in the public repository:
they lie where its evaluation reads them, PHOTOS/000001/*.jpg.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.benchmarks.benchmark import PAIRS, Benchmark, noun_key
from fdlab.benchmarks.convert import folder as folders
from fdlab.benchmarks.convert import prompt_lists
from fdlab.benchmarks.convert.photos import Photo, look, photos_in
from fdlab.data.captions import MARKER
from fdlab.errors import UserError
from fdlab.files import sha256

SINGLE, MULTI = "fastcomposer_single", "fastcomposer_multi"
MEN = ("000001", "000181", "000268", "001854", "002782", "003785")
WOMEN = ("000612", "000667", "001603", "002088", "002464", "002880", "002929", "002937", "004153")
PEOPLE = dict(sorted([*((name, "man") for name in MEN), *((name, "woman") for name in WOMEN)]))
CATEGORIES = ("accessory", "style", "action", "context")
"""In this order, as many prompts of each."""
NUM_PROMPTS, SIZE, IMAGES = 40, 512, 4
NUM_PAIR_PROMPTS = 21

DIGESTS = {
    "man": "814b3f086142a0fae5041c4d7ae4675c5899855196b519319bd169a3883ad0f3",
    "woman": "5a374acff0e0dd0798bd3e20d710502ee7032a0d6f85e2d470b13189f378e3c7",
}
"""sha256 of each noun's prompts: one a line, runs of spaces collapsed, none at a line's end, newline after
every line. (With the space that the code leaves behind a last noun: 6813dd7e..., 5c8904da...)"""

CODE = "evaluation/single_object"
PHOTOS = ("data/celeba_test_single", "data/celeba_test")
"""Where a checkout keeps the photos, the first that is there."""

EXPORT = (
    '(cd CHECKOUT/evaluation/single_object && python -c "import data as d; '
    "[open(f'prompts_{d.IMAGE_TO_GENDER_EVAL[s]}.txt', 'w').writelines(p + '\\n' for p in ps) "
    "for ps, s in d.get_combinations('', is_fastcomposer=True)]\")"
)
"""Writes the prompts of one person, a file a noun."""
EXPORT_PAIRS = (
    '(cd CHECKOUT/evaluation/multi_object && python -c "import data as d; '
    "a = ['<|image|>'] * 2, ['{noun}', '{noun2}']; "
    "open('prompts.txt', 'w').writelines(p + '\\n' for k in ('style', 'action', 'context') "
    "for p in ['# ' + k, *getattr(d, f'get_{k}_prompts')(*a)])\")"
)
"""Writes the prompts of pairs."""


def convert(
    checkout: Path, out: Path, photos: Path | None = None, digests: Mapping[str, str] = DIGESTS
) -> Benchmark:
    """Write the benchmark of single people: 15 subjects, 40 prompts, 4 images each, 512 pixels.

    `photos` stands in for the checkout's folder. UserError before anything is written, with what is missing
    or different.
    """
    folders.check_free(out)
    _check_folder(checkout)
    texts = {noun: _exported(checkout, noun, digest) for noun, digest in digests.items()}
    first, *others = ([_template(text, noun) for text in texts[noun]] for noun in texts)
    for theirs in others:
        for a, b in zip(first, theirs, strict=True):
            if a != b:
                raise UserError(
                    f"prompts in '{checkout / CODE}' differ by more than their noun: '{a}', '{b}'."
                )
    each = NUM_PROMPTS // len(CATEGORIES)
    found = [(CATEGORIES[k // each], text) for k, text in enumerate(first)]
    source = {
        "protocol": "FastComposer (arXiv 2305.10431), one subject",
        "prompts": dict(digests),
        "prompts_verified": True,
    }
    prompts = prompt_lists.entries(found)
    return _write(checkout, out, photos, SINGLE, prompts, source, checkout / CODE)


def convert_pairs(checkout: Path, out: Path, prompts: Path, photos: Path | None = None) -> Benchmark:
    """Write the benchmark of all 105 pairs of the 15 people, with 21 prompts of a text file.

    No digest of these prompts is known, and the paper's number of images was not read: 4 is the code's
    default. The manifest says so. Raises: UserError.
    """
    folders.check_free(out)
    _check_folder(checkout)
    found = prompt_lists.read(prompts)
    if len(found) != NUM_PAIR_PROMPTS:
        raise UserError(
            f"'{prompts}' has {len(found)} prompts, the protocol {NUM_PAIR_PROMPTS}; "
            f"export them: {_of(checkout, EXPORT_PAIRS)}"
        )
    needed = [f"{{{noun_key(k)}}}" for k in range(2)]
    for entry in found:
        if any(entry["text"].count(key) != 1 for key in needed):
            raise UserError(
                f"prompt '{entry['text']}' in '{prompts}' must name {' and '.join(needed)} once each: "
                "a prompt is drawn with men and women."
            )
    source = {
        "protocol": "FastComposer (arXiv 2305.10431), all pairs; images a prompt: the code's default",
        "prompts": sha256(prompts),
        "prompts_verified": False,
    }
    return _write(checkout, out, photos, MULTI, found, source, prompts, groups=PAIRS)


def _write(
    checkout: Path,
    out: Path,
    photos: Path | None,
    name: str,
    prompts: list[dict[str, Any]],
    source: dict[str, Any],
    where: Path,
    **more: Any,
) -> Benchmark:
    found = _photos(checkout, photos)
    files = {person: f"references/{person}{photo.suffix}" for person, photo in found.items()}
    if not all(photo.as_it_is for photo in found.values()):
        odd = next(photo.path for photo in found.values() if not photo.as_it_is)
        raise UserError(f"photo '{odd}' is grey or turned by EXIF: not one of the published photos.")
    subjects = [
        {"id": person, "noun": noun, "references": [files[person]], "heldout": []}
        for person, noun in PEOPLE.items()
    ]
    manifest = {
        "name": name,
        "version": "1",
        "size": SIZE,
        "seed": 0,
        "images_per_prompt": IMAGES,
        "subjects": subjects,
        "prompts": prompts,
        "source": {**source, "photos": {files[person]: sha256(found[person].path) for person in PEOPLE}},
        **more,
    }
    return folders.write(out, manifest, {files[person]: found[person] for person in PEOPLE}, where)


def _check_folder(checkout: Path) -> None:
    if not checkout.is_dir():
        raise UserError(f"no folder '{checkout}'; give a checkout of mit-han-lab/fastcomposer.")


def _exported(checkout: Path, noun: str, digest: str) -> list[str]:
    """The prompts of a noun as the user exported them, compared with the published digest."""
    path = checkout / CODE / f"prompts_{noun}.txt"
    export = _of(checkout, EXPORT)
    if not path.is_file():
        code = path.with_name("data.py")
        if not code.is_file():
            raise UserError(f"'{checkout}' is no checkout of mit-han-lab/fastcomposer: '{code}' is missing.")
        raise UserError(f"'{path}' is missing; export the prompts first: {export}")
    texts = [" ".join(line.split()) for line in prompt_lists.lines(path) if line.strip()]
    if len(texts) != NUM_PROMPTS:
        raise UserError(
            f"'{path}' has {len(texts)} prompts, published are {NUM_PROMPTS}; export them: {export}"
        )
    found = hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()
    if found != digest:
        raise UserError(
            f"'{path}' has other prompts than published (sha256 {found}, published {digest}); "
            f"another version of the code, or edited: export them again: {export}"
        )
    return texts


def _of(checkout: Path, export: str) -> str:
    return export.replace("CHECKOUT", shlex.quote(str(checkout)))


def _template(text: str, noun: str) -> str:
    """A prompt with `{noun}` and the marker in place of its noun."""
    made, times = re.subn(rf"\b{re.escape(noun)}\b", f"{{noun}} {MARKER}", text)
    if times != 1:
        raise UserError(f"prompt '{text}' has the word '{noun}' {times} times; it must have it once.")
    return made


def _photos(checkout: Path, given: Path | None) -> dict[str, Photo]:
    """The first photo of every person, as the code takes it: .jpg where there is one."""
    places = [given] if given else [checkout / name for name in PHOTOS]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        looked = " or ".join(f"'{place}'" for place in places)
        raise UserError(
            f"no photos: {looked} is missing. FastComposer's repository does not hold them; give the folder "
            "with one folder a subject (000001/*.jpg ...) by --photos DIR."
        )
    paths = {person: photos_in(folder / person) if (folder / person).is_dir() else [] for person in PEOPLE}
    missing = [person for person, found in paths.items() if not found]
    if missing:
        raise UserError(
            f"'{folder}' lacks photos of {', '.join(missing)} ({len(missing)} of {len(PEOPLE)} subjects): "
            "a folder a subject is needed, with one picture or more."
        )
    return {
        person: look(next((path for path in found if path.suffix == ".jpg"), found[0]))
        for person, found in paths.items()
    }
