"""Rendered people: what is fixed, what varies, and that pictures, masks, boxes and captions agree."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fdlab.data.rendered import spec_of
from fdlab.measure.faces import FaceDetector
from fdlab.people import appearance, benchmark, body, captions, identity, picture, scenes, styles
from fdlab.people.raster import rasterise
from fdlab.randomness import numpy_rng


def portrait(number: int = 3, **changes: object) -> picture.Spec:
    look = replace(appearance.draw(numpy_rng(0, "test"), 1.0), hat=None, scarf=None)
    spec = picture.Spec(((number, look),), "studio", "day", "photograph", picture.Framing(33.0, 0.42), 5)
    return replace(spec, **changes)


def test_rasteriser_agrees_with_a_test_of_every_pixel_against_every_triangle():
    rng = np.random.default_rng(0)
    screen = np.column_stack([rng.uniform(-4, 20, (30, 2)), rng.uniform(5, 9, 30)]).astype(np.float32)
    triangles = rng.permutation(30).reshape(10, 3).astype(np.int32)
    whole, smooth = np.ones(30, np.float32), np.zeros(10, np.float32)
    found, _, depth = rasterise(screen, triangles, whole, smooth, screen, 16, 16)
    for y in range(16):
        for x in range(16):
            best, nearest = -1, np.inf
            for t, corners in enumerate(triangles):
                a, b, c = screen[corners].astype(float)
                matrix = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
                w = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                if (w >= 0).all():
                    z = 1 / (w @ (1 / np.array([a[2], b[2], c[2]])))
                    if z < nearest:
                        best, nearest = t, z
            assert found[y, x] == best
            if best >= 0:
                assert depth[y, x] == pytest.approx(nearest, rel=1e-5)


def test_an_identity_is_a_function_of_its_number():
    identity.identity.cache_clear()
    first = [identity.identity(n) for n in range(30)]
    identity.identity.cache_clear()
    assert [identity.identity(n) for n in reversed(range(30))] == first[::-1]
    assert len({person.weights for person in first}) == 30


def test_shapes_stay_human():
    """Each target's weight is bounded, and so is what they add up to, at every vertex of the face."""
    mesh = body.load()
    for number in range(200):
        person = identity.identity(number)
        assert max(value for _, value in person.weights) <= 1.0
        shaped = mesh.shape(dict(person.weights))
        eyes = mesh.vertices_of(body.EYE)
        sided = mesh.rest_V3[eyes, 0]
        left, right = shaped[eyes[sided > 0]].mean(0), shaped[eyes[sided < 0]].mean(0)
        assert 0.45 < left[0] - right[0] < 0.85
        assert abs(left[1] - right[1]) < 0.08


def test_rendering_repeats_to_the_byte_and_follows_its_seed():
    spec = portrait()
    assert np.array_equal(picture.render(spec).image_HW3, picture.render(spec).image_HW3)
    assert not np.array_equal(picture.render(spec).image_HW3, picture.render(replace(spec, seed=6)).image_HW3)


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_scenes_vary_by_seed_and_differ_by_kind(scene):
    one, two = (scenes.draw(numpy_rng(seed, "t"), scene, "day", 64).picture_HW3 for seed in (0, 1))
    assert one.shape == (64, 64, 3) and one.min() >= 0 and one.max() <= 1
    assert np.abs(one - two).mean() > 0.01


def test_styles_leave_the_mask_and_change_the_picture():
    plain = picture.render(portrait())
    for style in styles.STYLES:
        drawn = picture.render(portrait(style=style))
        assert np.array_equal(drawn.segments_HW, plain.segments_HW)
    grey = picture.render(portrait(style="black-and-white photograph")).image_HW3
    assert np.array_equal(grey[..., 0], grey[..., 1])


def test_the_mask_is_where_the_person_is():
    """Another background changes no pixel well inside the mask, and most pixels outside it."""
    from scipy.ndimage import binary_dilation, binary_erosion

    made, other = picture.render(portrait()), picture.render(portrait(scene="space"))
    # The scenes' lights differ, so it is the silhouette that is compared, not the colours.
    assert np.array_equal(made.segments_HW, other.segments_HW)
    person = made.segments_HW > 0
    assert 0.2 < person.mean() < 0.8
    outside = ~binary_dilation(person, iterations=2)
    assert (np.abs(made.image_HW3.astype(int) - other.image_HW3).sum(2)[outside] > 20).mean() > 0.9
    assert binary_erosion(person, iterations=3).any()


def test_captions_say_what_the_truth_knows_and_ends_point_behind_nouns():
    for index in range(60):
        spec = spec_of("all", 1000, 3, index)
        text, ends = picture.describe(spec)
        known = picture.truth(spec)
        assert len(ends) == len(spec.people)
        for end, person in zip(ends, known["people"], strict=True):
            assert text[:end].endswith(person["noun"])
        assert text.startswith(styles.STYLES[known["style"]][1])
        assert scenes.SCENES[known["scene"]][1] in text
        assert captions.article("apple") == "an apple"


def test_no_dataset_reaches_the_benchmark():
    for mix in picture.MIXES:
        numbers = [n for i in range(200) for n, _ in spec_of(mix, 24000, 0, i).people]
        assert max(numbers) < identity.HELD_OUT
    assert all(s["identity"] >= identity.HELD_OUT for s in benchmark.manifest("people_single")["subjects"])


@pytest.mark.parametrize("name", benchmark.EMBEDDED)
def test_benchmark_prompts_are_asked_in_words(name):
    made = benchmark.embedded(name)
    nouns = ["{noun} <|image|>", "{noun2} <|image|>"][: made.size]
    group = made.groups[-1]
    for k, prompt in enumerate(made.prompts):
        assert len(prompt.wishes) == made.size == prompt.text.count("<|image|>")
        assert [prompt.text.count(noun) for noun in nouns] == [1] * made.size
        spec = benchmark.group_spec(name, group, k)
        assert (spec.scene, spec.style, spec.hour) == (prompt.scene, prompt.style, prompt.hour)
        assert [number - identity.HELD_OUT for number, _ in spec.people] == list(group)
        # What is asked of a person stands behind that person's marker.
        said = prompt.text.split("<|image|>")[1:]
        for wish, (_, look), words in zip(prompt.wishes, spec.people, said, strict=True):
            asked = [wish.color, wish.garment, wish.hat, wish.scarf, wish.expression]
            assert all(word in words for word in asked if word)
            assert look.expression == (wish.expression or "neutral")
            assert (look.hat, look.scarf) == (wish.hat, wish.scarf) and wish.color in (None, look.color)
    assert {p.category for p in made.prompts} == {"clothes", "style", "expression", "context"}
    texts = [p.text for p in made.prompts]
    assert len(set(texts)) == len(texts)


def test_a_benchmark_of_pairs_shows_both_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    small = benchmark.Embedded(3, benchmark.embedded("people_multi").prompts[:2], size=2)
    monkeypatch.setitem(benchmark.EMBEDDED, "small", small)
    benchmark.render(tmp_path / "whole", "small", workers=1)
    made = {p.relative_to(tmp_path / "whole"): p for p in (tmp_path / "whole").rglob("*.*")}
    assert len([p for p in made if p.parts[0] == "real"]) == 6
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", stopped)
    for lost in ("benchmark.json", "real/s00-s01-p01-0.png", "references/s02.png"):
        (stopped / lost).unlink()
    benchmark.render(stopped, "small", workers=1)
    assert {p: (stopped / p).read_bytes() for p in made} == {p: q.read_bytes() for p, q in made.items()}
    segments = picture.render(benchmark.group_spec("small", (0, 2), 0), benchmark.SIZE).segments_HW
    left, right = (np.nonzero(segments == k)[1].mean() for k in (1, 2))
    assert left < 64 < right and min((segments == k).mean() for k in (1, 2)) > 0.1
    # A person's reference is the same in every benchmark.
    assert benchmark.manifest("small")["subjects"] == benchmark.manifest("people_single")["subjects"][:3]


def test_renders_of_one_person_are_what_they_were():
    """Digests of specs made before there were pairs."""
    specs = [(0, "reference"), (3, "real", 5)]
    found = [hashlib.sha256(repr(benchmark.spec(*which)).encode()).hexdigest()[:16] for which in specs]
    assert found == ["606c934eb9f561f0", "f27d7291c79c2dc3"]


@pytest.mark.parametrize(
    ("mix", "digest"),
    [("all", "e397aed171c47834"), ("scenes", "af3f9cad4a79fab6"), ("portraits", "3d598962fd956598")],
)
def test_pictures_are_what_they_were_before_there_were_aligned_ones(mix, digest):
    specs = [picture.draw(picture.MIXES[mix], numpy_rng(3, "picture", mix, k), 40) for k in range(60)]
    assert hashlib.sha256(repr(specs).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("mix", [name for name in picture.MIXES if name.startswith("aligned-")])
def test_aligned_faces_lie_at_one_place(mix):
    specs = [spec_of(mix, 1000, 3, index) for index in range(40)]
    assert {len(spec.people) for spec in specs} == {1}
    assert len({(spec.framing.scale, spec.framing.eyes) for spec in specs}) == 1
    looks = [look for spec in specs for _, look in spec.people]
    assert np.std([look.yaw for look in looks]) < 8
    found = FaceDetector()(np.stack([picture.render(spec, 128).image_HW3 for spec in specs[:8]]))
    eyes = np.array([faces[0].landmarks_52[:2].mean(0) for faces in found if faces])
    # In drawings the detector is less sure.
    assert len(eyes) >= 6 and (eyes.std(0) < (3 if mix == "aligned-drawings" else 2.5)).all()
