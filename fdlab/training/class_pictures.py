"""Pictures of anybody, beside which a few people's are learnt: a folder's, and what the base model draws
where that has too few.

Prior preservation of DreamBooth (Ruiz et al. 2023, arXiv 2208.12242, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from fdlab.data.folder import Folder
from fdlab.data.pictures import write_png
from fdlab.data.sample import CorruptFile
from fdlab.diffusion.settings import SamplerSettings
from fdlab.engine.continuing import tell
from fdlab.errors import UserError
from fdlab.files import fingerprint, sha256, write_text
from fdlab.layouts.choose import open_folder
from fdlab.layouts.plain import CAPTIONS, PlainFolder
from fdlab.lock import exclusive
from fdlab.models import finetuned
from fdlab.models.finetuned import BackboneSettings
from fdlab.pipeline.artist import Artist
from fdlab.pipeline.batches import unfinished
from fdlab.pipeline.inputs import Scene
from fdlab.preparation.lexicon import SINGULAR
from fdlab.preparation.nouns import mentions
from fdlab.progress import bar
from fdlab.randomness import derive
from fdlab.training.settings import NOUN, DataSettings, PriorSettings

ANYBODY = "person"
"""Whom pictures show where the captions name nobody."""
AT_ONCE = 4
"""Pictures drawn together, as in DreamBooth's scripts."""
LOOKED_AT = 1000
"""Captions that nouns are taken from."""
RARE = 0.05
"""A noun of a smaller share is left out."""
DRAWN = "drawn-"
NOTE = ".drawn"
"""Says, in a folder of the user's own, what the base model's pictures in it were drawn by."""


def nouns_of(folder: Folder, split: str) -> list[str]:
    """The words for a person in a data set's captions, the most frequent first; at least one."""
    found: Counter[str] = Counter()
    for id in islice(folder.ids(split), LOOKED_AT):
        try:
            caption = folder.annotation(id).caption
        except CorruptFile:
            # It is named where its picture is read.
            continue
        words = (mention.noun.split()[-1] for mention in mentions(caption))
        found.update(word for word in words if word in SINGULAR)
    least = RARE * found.total()
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, num in ordered if num >= least] or [ANYBODY]


def captions_of(prior: PriorSettings, nouns: list[str]) -> list[str]:
    """The caption of each picture: the nouns in turn."""
    return [prior.prompt.replace(NOUN, nouns[index % len(nouns)]) for index in range(prior.num)]


def num_there(prior: PriorSettings) -> int:
    """Pictures that the user's folder has already."""
    root = prior.root
    if root is None or not root.exists():
        return 0
    if root.is_dir() and all(path.suffix in CAPTIONS or path.name == NOTE for path in root.iterdir()):
        # None yet, or the first was about to be drawn.
        return 0
    return len(open_folder(root).ids("train"))


def own(prior: PriorSettings) -> tuple[Folder, list[str]] | None:
    """The user's folder and those of its pictures that the base model did not draw; None: there are none."""
    if prior.root is None or not num_there(prior):
        return None
    folder = open_folder(prior.root, caption=caption_for(prior.root, prior))
    return folder, [id for id in folder.ids("train") if not id.startswith(DRAWN)]


def caption_for(root: Path, prior: PriorSettings) -> str | None:
    """The caption of those that have none, of a folder that may hold such."""
    return prior.caption if open_folder(root).kind == PlainFolder.kind else None


def described(prior: PriorSettings) -> str:
    """What will be there, for a person."""
    if prior.root is None:
        return f"{prior.num:,}, kept below paths.cache; the base model draws those that are not there"
    there = num_there(prior)
    lacking = max(0, prior.num - there)
    return f"{there:,} in '{prior.root}'" + (f"; the base model draws {lacking:,} more" if lacking else "")


def check(data: DataSettings, backbone: BackboneSettings) -> None:
    """Look, before anything is loaded, whether pictures are there or can be drawn. Raises: UserError."""
    prior, there = data.prior, num_there(data.prior)
    if there:
        _check_captions(prior)
    if there >= prior.num:
        return
    if there and open_folder(prior.root or "").kind != PlainFolder.kind:
        raise UserError(
            f"data.prior.root={prior.root} has {there} pictures, data.prior.num is {prior.num}; only a plain"
            f" folder is filled up: give data.prior.num={there}."
        )
    finetuned.need_all(backbone, {"tdm": "base"})


def _check_captions(prior: PriorSettings) -> None:
    root = prior.root or Path()
    folder = open_folder(root, caption=caption_for(root, prior))
    for id in folder.ids("train") if folder.kind == PlainFolder.kind else ():
        try:
            folder.annotation(id)
        except CorruptFile as error:
            raise UserError(
                f"data.prior.root={prior.root}: {str(error).rstrip('.')}. Class pictures need captions too:"
                " one for all that have none is a data.prior.prompt that names whom they show, as"
                f" '{prior.prompt.replace(NOUN, 'woman')}'; the base model's own come with theirs"
                " (data.prior.root=null)."
            ) from None


def ensure(
    data: DataSettings,
    backbone: BackboneSettings,
    sampler: SamplerSettings,
    pictures: Folder,
    device: torch.device,
    show: bool = True,
) -> Path:
    """The folder of class pictures, as many as are asked for; those that lack are drawn by the base model.

    They are kept, and an interrupted call is gone on with; each depends on its number alone. Of several
    processes one draws. `pictures`: the data set whose nouns they show. Raises: UserError.
    """
    check(data, backbone)
    prior = data.prior
    if prior.root is not None and num_there(prior) >= prior.num and not any(prior.root.glob(f"{DRAWN}*.png")):
        return prior.root
    captions = captions_of(prior, nouns_of(pictures, data.split))
    base = finetuned.need(backbone, "tdm", "base")
    by = {
        "weights": finetuned.sha256_of_parts(base.parts),
        "shared": finetuned.sha256_of_parts(backbone.shared_parts()),
        "loras": [(sha256(each.path), each.weight) for each in base.loras],
        "prompt": prior.prompt,
        "size": data.size,
        "sampler": sampler.as_dict(),
    }
    cache = data.cache / "class_pictures"
    root = prior.root or cache / fingerprint({**by, "captions": captions})[:16]
    with exclusive(cache / f"{fingerprint({'root': root.absolute()})[:16]}.lock"):
        there = num_there(replace(prior, root=root))
        drawn = {path.stem for path in root.glob(f"{DRAWN}*.png") if path.with_suffix(CAPTIONS[0]).is_file()}
        _check_drawn(root, fingerprint(by) if drawn else None)
        # Beside those that a person put there.
        captions = captions[: max(0, prior.num - (there - len(drawn)))]
        missing = {index for index in range(len(captions)) if _name(index) not in drawn}
        if missing:
            if prior.root is not None:
                write_text(root / NOTE, fingerprint(by))
            tell(f"class pictures: the base model draws {len(missing)} into '{root}'.")
            artist = Artist.load(backbone, {"tdm": base}, sampler, device=str(device))
            _draw(artist, captions, missing, root, show)
    return root


def _check_drawn(root: Path, by: str | None) -> None:
    """Whether what the base model drew into a folder earlier was drawn `by` the same, as far as is known."""
    note = root / NOTE
    if by is not None and note.is_file() and note.read_text() != by:
        raise UserError(
            f"data.prior.root={root}: its {DRAWN}*.png are of another prompt, sampler, size or base"
            " model; give another folder, or remove them."
        )


def _name(index: int) -> str:
    return f"{DRAWN}{index:05d}"


def _draw(artist: Artist, captions: list[str], missing: set[int], root: Path, show: bool) -> None:
    """Draw those that are missing, in batches of fixed composition."""
    done = len(captions) - len(missing)
    with bar("draw class pictures", len(captions), done=done, show=show) as progress:
        for batch in unfinished(range(len(captions)), AT_ONCE, missing.__contains__):
            scenes = [Scene(captions[index], derive(0, "class picture", index)) for index in batch]
            for index, image_HW3 in zip(batch, artist(scenes), strict=True):
                if index not in missing:
                    continue
                # The caption first: a picture without one could not be read.
                write_text(root / f"{_name(index)}{CAPTIONS[0]}", captions[index] + "\n")
                text = {"Software": "fdlab (generated image)", "prompt": captions[index]}
                write_png(root / f"{_name(index)}.png", image_HW3, text)
                progress.advance()
