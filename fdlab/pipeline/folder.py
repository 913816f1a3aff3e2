"""What a saved pipeline may ask for: nothing is imported on a folder's word but the classes known here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdlab.errors import UserError, unknown
from fdlab.models.backbone import INDEX
from fdlab.models.parts import CLASSES, NETWORKS, check_network
from fdlab.models.parts import ROLES as SECONDS
from fdlab.weights.formats import one_line, read_index

ROLES = {
    "tdm_unet": "unet",
    "sdm_unet": "unet",
    "tdm_text_encoder": "text_encoder",
    "tdm_text_encoder_2": "text_encoder",
    **SECONDS,
}
"""Parts of the pipeline that are a backbone's under another name."""


def check_folder(folder: Path) -> None:
    """Check a saved pipeline's index. Raises: UserError for a class that has no place there, and pickled
    weights."""
    index = read_index(folder)
    if not index:
        raise UserError(f"'{folder}' is no saved pipeline: its {INDEX} lists no part.")
    for part, listed in index.items():
        if part == "scheduler":
            if listed[0] != "diffusers":
                raise unknown(
                    f"library for the scheduler in '{folder / INDEX}'", str(listed[0]), ["diffusers"]
                )
            continue
        role = ROLES.get(part, part)
        allowed = [name for name, (place, _) in CLASSES.items() if place == role]
        if not allowed:
            raise UserError(f"'{folder / INDEX}' lists a part '{part}', which this pipeline does not have.")
        module, name = listed
        if name is None:
            continue
        if name not in allowed and not (role == "tokenizer" and name == "CLIPTokenizerFast"):
            raise unknown(f"class for the {part} in '{folder / INDEX}'", str(name), allowed)
        known = CLASSES.get(name, ("", "transformers"))[1]
        if module != known:
            raise unknown(f"library for the {part} in '{folder / INDEX}'", str(module), [known])
        if role in NETWORKS and (folder / part).is_dir():
            # Else a tensor that is missing would be drawn at random.
            check_network(role, folder / part, {role: listed})


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn what other libraries raise on a folder's files into UserError; what is no folder comes from the
    hub."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not folder.is_dir():
            raise
        # Four libraries read it; any error may come of a broken file.
        raise UserError(f"the pipeline in '{folder}' cannot be read: {one_line(error)}.") from error
