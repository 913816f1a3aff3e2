"""What is held out: pictures of people whom no training picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fdlab.randomness import derive


def held_out(identities: Sequence[Sequence[int]], share: float, seed: int) -> set[int]:
    """Places of the pictures to hold out, given who is in each: at most `share` of them.

    People who are in one picture together, and those who are with them in others, are held out together or
    not at all. Such circles are taken in an order drawn by the seed, as long as they fit.
    """
    people = {person for picture in identities for person in picture}
    pairs = [(n, len(identities) + person) for n, picture in enumerate(identities) for person in picture]
    size = len(identities) + max(people, default=-1) + 1
    if not pairs:
        return set()
    rows, columns = zip(*pairs, strict=True)
    graph = coo_array((np.ones(len(pairs), np.int8), (rows, columns)), shape=(size, size))
    circle_N = connected_components(graph, directed=False)[1][: len(identities)]
    members: dict[int, list[int]] = {}
    for n, circle in enumerate(circle_N.tolist()):
        members.setdefault(circle, []).append(n)
    order = sorted(members.values(), key=lambda pictures: derive(seed, "held out", pictures[0]))
    left, held = int(share * len(identities)), set[int]()
    for pictures in order:
        if len(pictures) <= left:
            held.update(pictures)
            left -= len(pictures)
    return held
