"""Who is who: faces grouped by the mean likeness of their embeddings. N faces, D embedding width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

APART = 1e9
"""Distance of two faces of one picture, who are two people: no mean with it in it is small."""
BLOCK = 1024


def grouped(embedding_ND: np.ndarray, pictures_N: Sequence[int], threshold: float) -> list[int]:
    """A number for each face, equal for faces of one person, counted by first appearance.

    Average linkage (UPGMA, Sokal and Michener 1958) on cosines, down to `threshold`; faces of one picture are
    never one person. Only what a chain of pairs above the threshold connects is compared as a whole: no mean
    across such parts reaches it.
    """
    num = len(embedding_ND)
    if not num:
        return []
    norm_N1 = np.maximum(np.linalg.norm(embedding_ND, axis=1, keepdims=True), 1e-12)
    unit_ND = np.asarray(embedding_ND, np.float64) / norm_N1
    picture_N = np.asarray(pictures_N)
    part_N = _parts(unit_ND, picture_N, threshold)
    label_N = np.zeros(num, np.int64)
    for part in range(part_N.max() + 1):
        members = np.flatnonzero(part_N == part)
        label_N[members] = label_N.max() + _within(unit_ND[members], picture_N[members], threshold)
    seen: dict[int, int] = {}
    return [seen.setdefault(int(label), len(seen)) for label in label_N]


def _parts(unit_ND: np.ndarray, picture_N: np.ndarray, threshold: float) -> np.ndarray:
    rows, columns = [], []
    for start in range(0, len(unit_ND), BLOCK):
        alike = unit_ND[start : start + BLOCK] @ unit_ND.T >= threshold
        alike &= picture_N[start : start + BLOCK, None] != picture_N[None]
        row, column = np.nonzero(alike)
        rows.append(row + start)
        columns.append(column)
    edges = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(len(unit_ND),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


def _within(unit_MD: np.ndarray, picture_M: np.ndarray, threshold: float) -> np.ndarray:
    """Labels from 1."""
    if len(unit_MD) == 1:
        return np.ones(1, np.int64)
    distance_MM = np.clip(1 - unit_MD @ unit_MD.T, 0, None)
    distance_MM[picture_M[:, None] == picture_M[None]] = APART
    np.fill_diagonal(distance_MM, 0)
    distance_MM = (distance_MM + distance_MM.T) / 2
    tree = linkage(squareform(distance_MM, checks=False), "average")
    return np.asarray(fcluster(tree, 1 - threshold, "distance"))


def corrected(labels: Sequence[int], given: Mapping[int, str]) -> list[int]:
    """The groups, where some faces (by place) were given a name by hand: those of one name are one person,
    and nobody else is."""
    names = {name: -1 - n for n, name in enumerate(dict.fromkeys(given.values()))}
    seen: dict[int, int] = {}
    wanted = [names[given[n]] if n in given else label for n, label in enumerate(labels)]
    return [seen.setdefault(label, len(seen)) for label in wanted]
