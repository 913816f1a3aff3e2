"""A person as one posed mesh: identity and appearance put on the body.

Axes: V vertices, T triangles; decimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fdlab.people import body as body_module
from fdlab.people import clothes, hair
from fdlab.people.appearance import Appearance
from fdlab.people.body import EYE, NECK_PIVOT, SKIN
from fdlab.people.identity import EYE_COLORS, Identity
from fdlab.people.mesh import Mesh, join
from fdlab.people.raster import vertex_normals


@dataclass(frozen=True)
class Figure:
    """A posed person and the numbers that paint it (`materials.PAINT` names them)."""

    mesh: Mesh
    normals_V3: np.ndarray
    paint: dict[str, np.ndarray | float]


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix for angles in degrees: yaw to +x, pitch up, roll clockwise as seen by the viewer."""
    y, p, r = np.radians([yaw, -pitch, -roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


@lru_cache(maxsize=256)
def _grown(person: Identity) -> tuple[np.ndarray, np.ndarray, list[Mesh]]:
    """Shape, its normals, and the pieces that depend on nothing but the identity."""
    body = body_module.load()
    shaped = body.shape(dict(person.weights))
    # Sex, age and build also make a body taller: the eyes stay put, so that every face is in the picture.
    eyes = body.vertices_of(EYE)
    shaped = shaped + (body.rest_V3[eyes].mean(0) - shaped[eyes].mean(0)) * np.array([0, 1, 0.5], np.float32)
    normals = vertex_normals(shaped, body.triangles_T3)
    pieces = [
        hair.shell(body, person, shaped, normals),
        hair.sheet(body, person, shaped),
        hair.knot(person, shaped),
    ]
    grown = [piece for piece in pieces if piece is not None]
    return shaped, normals, grown + clothes.glasses(body, person, shaped)


def build(person: Identity, look: Appearance) -> Figure:
    """Dress and pose a person. The origin lies in the neck; the face looks along +z."""
    body = body_module.load()
    shaped, normals, pieces = _grown(person)
    face = shaped.copy()
    units = look.units(set(body.target_names))
    if units:
        face += body.shape(units) - body.rest_V3
    if look.hat:
        pieces = [_flattened(piece) for piece in pieces] + clothes.hat(body, shaped, normals)
    skin = Mesh.of(
        face,
        body.triangles_T3,
        body.part_T.astype(np.int32),
        rest=body.rest_V3,
        head=body.head_V,
        occlusion=body.paint["occlusion"],
        lips=body.paint["lips"],
        eyelids=body.paint["eyelids"],
    )
    pieces = [skin, *pieces, *clothes.garment(body, look.garment, shaped, normals)]
    if look.scarf:
        pieces.append(clothes.scarf(body, shaped, normals))
    mesh = join(pieces)
    head, trunk = rotation(look.yaw - look.turn, look.pitch, look.roll), rotation(look.turn, 0, 0)
    local = mesh.positions_V3 - NECK_PIVOT
    posed = local + mesh.head_V[:, None] * (local @ head.T - local)
    posed = (posed @ trunk.T).astype(np.float32)
    mesh = replace(mesh, positions_V3=posed)
    return Figure(mesh, vertex_normals(posed, mesh.triangles_T3), _paint(person, look, body))


def _flattened(piece: Mesh) -> Mesh:
    """Hair under a hat keeps to the skull: what stands above the brim is left out."""
    azimuth, elevation = body_module.skull_angles(piece.rest_V3)
    edge = np.interp(np.abs(azimuth), [0, 70, 110, 180], [28, 23, 15, 0])
    return replace(piece, cut_V=np.minimum(piece.cut_V, (edge + 4 - elevation) / 30).astype(np.float32))


def _paint(person: Identity, look: Appearance, body: body_module.Body) -> dict[str, np.ndarray | float]:
    eyes = body.rest_V3[body.vertices_of(EYE)]
    left = eyes[eyes[:, 0] > 0]
    color = {name: np.array(value) for name, value in clothes.COLORS.items()}
    moles = np.full((3, 2), 9.0)
    moles[: len(person.moles)] = np.array(person.moles).reshape(-1, 2)
    return {
        "skin": np.array(person.skin),
        "lip": np.array(person.lip),
        "iris": np.array(EYE_COLORS[person.eye_color]),
        "hair": np.array(person.hair_tint),
        "brow": np.array([person.brow_weight, person.brow_arch, person.brow_height]),
        "beard": float(("none", "stubble", "full", "goatee", "moustache").index(person.beard)),
        "freckles": person.freckles,
        "makeup": person.makeup,
        "age": person.age,
        "curl": float(person.hair_style in ("curly", "afro")),
        "shaved": float(person.hair_style != "bald"),
        "cloth": color[look.color],
        "second": color[look.second],
        "pattern": float(clothes.PATTERNS.index(look.pattern)),
        "garment": float(clothes.GARMENTS.index(look.garment)),
        "frame": np.array(person.glasses_color),
        "hat": color[look.hat] if look.hat else np.zeros(3),
        "scarf": color[look.scarf] if look.scarf else np.zeros(3),
        "moles": moles.reshape(-1),
        "gaze": np.radians(look.gaze),
        "eye": (left.max(0) + left.min(0)) / 2,
        "number": float(person.number % 997),
    }


FACE = (SKIN, EYE)
"""Materials that make up the face, for boxes and weights."""
