"""Who somebody is, as numbers that an encoder can be taught: the renderer's own parameters."""

from __future__ import annotations

import numpy as np

from fdlab.people.identity import BEARDS, GLASSES, HAIR_STYLES, _detail_pairs, identity

STYLES = sorted({style for styles in HAIR_STYLES.values() for style in styles})
FORMS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")


def vector(number: int) -> np.ndarray:
    """Skin, hair, beard, glasses, age, sex, build and every detail of the face of one person."""
    person = identity(number)
    weights = dict(person.weights)
    values = [*(3 * np.log(person.skin)), *np.log(person.lip), *(2 * np.log(person.hair_tint))]
    for name, names in ((person.hair_style, STYLES), (person.beard, BEARDS), (person.glasses, GLASSES)):
        values += [3.0 * (name == known) for known in sorted(set(names))]
    values += [3.0 * person.age, 2.0 * (person.noun == "man"), person.hair_length, person.hair_volume]
    values += [2 * person.fringe, person.brow_weight, person.brow_arch, 10 * person.brow_height]
    values += [person.freckles, person.makeup]
    values += list(np.log(np.array(person.glasses_color)) * (person.glasses != "none"))
    for race in ("african", "asian", "caucasian"):
        values.append(3 * sum(v for name, v in weights.items() if name.startswith(f"macro-{race}")))
    for key in ("maxmuscle", "minmuscle", "maxweight", "minweight"):
        values.append(2 * sum(v for name, v in weights.items() if key in name))
    values += [weights.get(f"head-{form}", 0.0) for form in FORMS]
    for _, positive, negative in _detail_pairs():
        up = weights.get(positive, 0.0) if positive else 0.0
        values.append(up - (weights.get(negative, 0.0) if negative else 0.0))
    return np.array(values, np.float32)
