"""`fdlab checkpoint`: bring weights in, take them out, look at them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fdlab.cli.options import parser
from fdlab.errors import UserError


def arguments() -> argparse.ArgumentParser:
    """Arguments of the verb."""
    top = parser("checkpoint", "Bring weights in, take them out, look at them.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="{import,export,info}")
    bring = verbs.add_parser(
        "import",
        help="a single file of Stable Diffusion, a released pytorch_model.bin, or a folder of .bin weights,"
        " to a safetensors folder",
        description="Turn a Stable Diffusion 1.x, 2.x, XL or 3 in one file (original layout), the flat"
        " pytorch_model.bin of Face-diffuser or FastComposer, or a diffusers folder whose weights are"
        " pickled, into a model folder in diffusers' layout. Only tensors are unpickled.",
    )
    bring.add_argument("source", help="FILE.safetensors, FILE.ckpt, pytorch_model.bin, or a folder")
    bring.add_argument("out", help="the model folder to write")
    bring.add_argument(
        "--base", help="Stable Diffusion 1.5 folder: configs, tokenizer and scheduler (for a flat file)"
    )
    bring.add_argument(
        "--image-encoder",
        help="folder with the config of CLIP's image encoder; default: as --base, or read from the tensors",
    )
    bring.add_argument(
        "--tokenizer", help="folder with CLIP's vocab.json and merges.txt (for a single file, which has none)"
    )
    bring.add_argument(
        "--prediction-type",
        choices=("epsilon", "v_prediction"),
        help="what a single file's denoiser predicts; Stable Diffusion 2.1: v_prediction, its base: epsilon",
    )
    bring.add_argument("--half", action="store_true", help="store fp16")
    bring.add_argument("--force", action="store_true", help="replace OUT if it exists")
    take = verbs.add_parser(
        "export",
        help="a run or model folder to what other programs read: a pipeline's folder, one file, LoRA files",
        description="Write a run's model, or a model folder, in another layout. released: one flat state dict"
        " as Face-diffuser's and FastComposer's code reads it. diffusers: a folder that plain diffusers loads"
        " alone. original: one .safetensors file as other programs read Stable Diffusion. lora, kohya: the"
        " adapter of a run trained by LoRA, by diffusers' or kohya's names. pipeline: an SDM, with a TDM"
        " beside it, as a folder that FaceDiffuserPipeline.from_pretrained reads.",
    )
    take.add_argument("source", help="a run's folder, a model folder in diffusers' layout, or a LoRA file")
    take.add_argument(
        "out", help="what to write: NAME.bin, NAME.safetensors, or for diffusers and pipeline a folder"
    )
    take.add_argument(
        "--layout",
        choices=("released", "diffusers", "original", "lora", "kohya", "pipeline"),
        default="released",
    )
    take.add_argument(
        "--tdm", help="for pipeline: the text-driven model beside it, a run, a model folder, or base"
    )
    take.add_argument(
        "--base",
        help="folder of the parts that SOURCE lacks; default: the backbone that its run was made with",
    )
    take.add_argument("--half", action="store_true", help="store fp16")
    take.add_argument("--force", action="store_true", help="replace OUT if it exists")
    look = verbs.add_parser("info", help="parts, parameters and precision of a checkpoint")
    look.add_argument("path", help="a run's folder, model folder, part folder, single file or LoRA file")
    return top


def main(argv: list[str]) -> int:
    """Run the verb. Raises: UserError for wrong input."""
    args = arguments().parse_args(argv)
    return {"import": _import, "export": _export, "info": _info}[args.verb](args)


def _import(args: argparse.Namespace) -> int:
    _writable(args.out, args.force, args.source, args.base, args.image_encoder, args.tokenizer)
    # Torch and diffusers take seconds to import; `--help` must not wait for them.
    from fdlab.assets import resolve
    from fdlab.exchange.released import import_folder, import_released
    from fdlab.models.backbone import save_backbone
    from fdlab.weights.unreadable import not_there

    source = resolve(args.source)
    if not source.exists():
        raise not_there(
            args.source, "a single file, a released pytorch_model.bin, or a folder of .bin weights"
        )
    if source.is_file() and _import_single_file(source, args):
        return 0
    unread = ["tokenizer", "prediction_type"] + (["base", "image_encoder"] if source.is_dir() else [])
    _refuse_unread(args, "a folder" if source.is_dir() else "a flat file", *unread)
    told: list[str] = []
    if source.is_dir():
        backbone = import_folder(args.source, to_write=True)
    elif args.base is None:
        raise UserError(
            f"'{args.source}' is one file, without configs or tokenizer;"
            " give --base FOLDER (Stable Diffusion 1.5)."
        )
    else:
        backbone = import_released(args.source, args.base, args.image_encoder, to_write=True, told=told)
    save_backbone(args.out, backbone, half=args.half)
    print("\n".join(told), end="\n" if told else "")
    print(f"{', '.join(backbone.networks())} written to {args.out}")
    return 0


def _import_single_file(source: Path, args: argparse.Namespace) -> bool:
    """Whether the source is a single file in the original layout, which then is a folder."""
    from fdlab.exchange.single_file import is_original, is_released, kind_of, look_into
    from fdlab.exchange.unpacking import find_tokenizer, prediction_of, predicts, unpack

    file = look_into(source)
    if not is_original(file) and is_released(file):
        return False
    kind, prediction = kind_of(file), args.prediction_type
    _refuse_unread(args, "a single file", "base")
    if prediction is None and kind == "sd2" and predicts(file, kind, 0) == "epsilon":
        raise UserError(
            f"'{source}' is Stable Diffusion 2, whose tensors do not show what it predicts; give"
            " --prediction-type v_prediction (2.1 at 768 pixels) or epsilon (its base at 512)."
        )
    tokenizer = find_tokenizer(args.tokenizer, source, args.image_encoder, "--tokenizer ")
    prediction = prediction_of(file, kind, 0, prediction, "--prediction-type ")
    written = unpack(file, Path(args.out), tokenizer, 0, prediction, args.half)
    print(f"{', '.join(written)} written to {args.out}")
    return True


def _refuse_unread(args: argparse.Namespace, what: str, *names: str) -> None:
    """Raise UserError for an option that has no say in what is imported."""
    for name in names:
        if (given := getattr(args, name)) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} {given}: '{args.source}' is {what}, which takes none."
            )


def _export(args: argparse.Namespace) -> int:
    ends = (".bin", ".safetensors") if args.layout == "released" else (".safetensors",)
    is_file = Path(args.out).suffix in ends
    is_folder = args.layout in ("diffusers", "pipeline")
    if is_folder and Path(args.out).suffix in (".bin", ".safetensors"):
        raise UserError(f"'{args.out}': --layout {args.layout} writes a folder; give a name without an end.")
    if not is_folder and not is_file:
        raise UserError(f"'{args.out}': the name must end in {' or '.join(ends)}.")
    if args.tdm and args.layout != "pipeline":
        raise UserError(f"--tdm goes with --layout pipeline alone, not with {args.layout}.")
    _writable(args.out, args.force, args.source, args.base, args.tdm)
    if args.layout == "pipeline":
        from fdlab.pipeline.export import write_pipeline

        written = write_pipeline(Path(args.out), args.source, args.tdm, args.base, args.half)
        print(f"{written} written to {args.out}")
        return 0
    from fdlab.exchange.whole_model import LAYOUTS

    written = LAYOUTS[args.layout](Path(args.out), args.source, args.base, args.half)
    print(f"{written} written to {args.out}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from fdlab.exchange.contents import describe

    rows = describe(args.path)
    wide = max([14, *(len(row.part) for row in rows)])
    print(f"{'part':<{wide}} {'class':<30} {'tensors':>8} {'parameters':>13}  precision")
    for row in rows:
        print(
            f"{row.part:<{wide}} {row.class_name:<30} {row.tensors:>8,} {row.parameters:>13,}  {row.dtypes}"
        )
    return 0


def _writable(out: str, force: bool, *read: str | None) -> None:
    """Whether something may be written there, in whose place nothing of what is `read` lies. Raises:
    UserError."""
    place = Path(out).resolve()
    if Path(out).exists() and not force:
        raise UserError(f"'{out}' exists; give another name, or --force to replace it.")
    for given in (".", *read):
        if given is not None and place in (Path(given).resolve(), *Path(given).resolve().parents):
            what = "is where this works" if given == "." else f"is, or holds, '{given}', which is read"
            raise UserError(f"'{out}' {what}; give another name.")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"'{out}' cannot be written in '{above}'; choose another folder.")
