"""The pipeline: what it takes, refuses and returns, and that a picture depends on its own inputs alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fdlab import FaceDiffuserPipeline
from fdlab.config.compose import compose
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guiders import Trace
from fdlab.diffusion.initial import latents as seeded
from fdlab.diffusion.schedulers import SCHEDULERS, make_scheduler
from fdlab.errors import UserError
from fdlab.measure.faces.photos import Head, cut_face
from fdlab.models.nano import SHIPPED
from fdlab.people import picture
from fdlab.randomness import numpy_rng
from tests.worlds.backbones import tiny_backbone, tiny_sd15

ONE, TWO = "a woman <|image|> on a beach", "a man <|image|> and a woman <|image|> in a forest"
QUICK = {"num_inference_steps": 4, "guidance_scale": 2.0}


def face(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 24, 3), np.uint8))


def build() -> FaceDiffuserPipeline:
    sdm = tiny_backbone(2)
    tdm = replace(tiny_backbone(1), text_encoder=sdm.text_encoder)
    made = FaceDiffuserPipeline.from_backbones(tdm, sdm)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipe() -> FaceDiffuserPipeline:
    return build()


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image).astype(int) for image in images])


def test_one_call_draws_prompts_with_different_numbers_of_subjects(pipe: FaceDiffuserPipeline) -> None:
    """Alone, in another order or with others: the same latents, up to the order of sums."""
    prompts, subjects, seeds = [ONE, TWO, ONE], [[face(0)], [face(1), face(2)], [face(2)]], [5, 6, 7]

    def run(rows: list[int]) -> Tensor:
        chosen: tuple[list[Any], ...] = tuple([some[i] for i in rows] for some in (prompts, subjects, seeds))
        return pipe(chosen[0], chosen[1], seeds=chosen[2], output_type="latent", **QUICK).images

    together = run([0, 1, 2])
    assert together.shape == (3, 4, 8, 8) and together.isfinite().all()
    for other in (run([2, 1, 0]).flip(0), torch.cat([run([0]), run([1]), run([2])])):
        assert (together - other).abs().max() < 1e-4
    assert (together[0] - together[2]).abs().max() > 1e-2


def test_the_same_through_prompt_embeds_without_encoders(pipe: FaceDiffuserPipeline) -> None:
    wanted = pipe([ONE], [[face(0)]], seeds=[5], output_type="latent", **QUICK).images
    null, text, augmented = pipe.encode_prompt(ONE, face(0))
    bare = FaceDiffuserPipeline(
        tdm_unet=pipe.tdm_unet, sdm_unet=pipe.sdm_unet, vae=None, text_encoder=None, image_encoder=None,
        fusion=None, tokenizer=None, scheduler=pipe.scheduler,
    )  # fmt: skip
    bare.set_progress_bar_config(disable=True)
    embeds = {"prompt_embeds": text, "negative_prompt_embeds": null, "subject_prompt_embeds": augmented}
    latents = seeded([5], (4, 8, 8))
    found = bare(**embeds, latents=latents, output_type="latent", return_dict=False, **QUICK)[0]
    assert torch.equal(found, wanted)
    with pytest.raises(UserError, match="needs a VAE"):
        bare(**embeds, latents=latents, **QUICK)
    for missing, said in (
        ("negative_prompt_embeds", "give negative_prompt_embeds"),
        ("subject_prompt_embeds", "give subject_prompt_embeds"),
        ("prompt_embeds", "give a prompt, or prompt_embeds"),
    ):
        with pytest.raises(UserError, match=said):
            bare(**{**embeds, missing: None}, output_type="latent")
    with pytest.raises(UserError, match="they must agree"):
        bare(**{**embeds, "subject_prompt_embeds": augmented[:, 1:]}, output_type="latent")


def test_saved_and_read_again(pipe: FaceDiffuserPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "saved")
    read.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"seeds": [3], **QUICK}
    assert np.array_equal(
        pixels(read(ONE, face(0), **arguments).images), pixels(pipe(ONE, face(0), **arguments).images)
    )
    assert not list((tmp_path / "saved").rglob("*.bin"))


def test_what_ships_cuts_heads_out_and_knows_what_suits_it(tmp_path: Path) -> None:
    pipe = FaceDiffuserPipeline.shipped()
    assert {key: pipe.config[key] for key in SHIPPED} == SHIPPED
    nano = compose([]).backbone
    assert {key: nano[key] for key in SHIPPED} == SHIPPED
    spec = picture.draw(picture.MIXES["portraits"], numpy_rng(0, "shipped"), 8)
    photo = Image.fromarray(picture.render(spec, 128).image_HW3)
    mine = pipe.encode_prompt(ONE, photo).augmented_BLD
    quick: dict[str, Any] = {"seeds": [1], "num_inference_steps": 4, "output_type": "latent"}
    drawn = pipe(ONE, photo, **quick).images
    assert torch.equal(drawn, pipe(ONE, photo, guidance_scale=3.0, final_sigma=0.7, **quick).images)
    assert not torch.equal(drawn, pipe(ONE, photo, guidance_scale=5.0, final_sigma=0.7, **quick).images)
    with pytest.raises(UserError, match="no face found"):
        pipe.encode_prompt(ONE, Image.new("RGB", (64, 64)))
    pipe.save_pretrained(tmp_path / "saved")
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "saved")
    again = read.encode_prompt(ONE, photo).augmented_BLD
    torch.testing.assert_close(again, mine, atol=1e-3, rtol=0.0)
    read.register_to_config(reference_crop="person")
    head = cut_face(photo, head=Head(96))
    assert torch.equal(read.encode_prompt(ONE, head).augmented_BLD, again)
    assert (read.encode_prompt(ONE, photo).augmented_BLD - again).abs().max() > 0.01


def test_a_folder_brings_no_code_of_its_own(pipe: FaceDiffuserPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    index = tmp_path / "saved/model_index.json"
    kept = json.loads(index.read_text())
    for part, listed, said in (
        ("fusion", ["antigravity", "SubjectFusion"], "unknown library for the fusion"),
        ("tdm_unet", ["diffusers", "UNet2DModel"], "Did you mean 'UNet2DConditionModel'"),
        ("scheduler", ["os", "DDIMScheduler"], "unknown library for the scheduler"),
        ("extra", ["diffusers", "UNet2DConditionModel"], "lists a part 'extra'"),
    ):
        index.write_text(json.dumps({**kept, part: listed}))
        with pytest.raises(UserError, match=said):
            FaceDiffuserPipeline.from_pretrained(tmp_path / "saved")
    index.write_text(json.dumps(kept))
    with pytest.raises(UserError, match="pickles"):
        FaceDiffuserPipeline.from_pretrained(tmp_path / "saved", use_safetensors=False)
    weights = tmp_path / "saved/sdm_unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="is not safetensors"):
        FaceDiffuserPipeline.from_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")


def test_outputs(pipe: FaceDiffuserPipeline) -> None:
    def run(kind: str) -> Any:
        return pipe(ONE, face(0), seeds=[1], output_type=kind, **QUICK).images

    (image,), array, tensor = run("pil"), run("np"), run("pt")
    assert image.size == (64, 64) and array.shape == (1, 64, 64, 3) and tensor.shape == (1, 3, 64, 64)
    assert np.array_equal(np.asarray(image), (array[0] * 255).round().astype(np.uint8))
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    wide = pipe(ONE, face(0), seeds=[1], height=96, width=128, **QUICK).images[0]
    assert wide.size == (128, 96)


def test_stages_as_fractions_or_as_released(pipe: FaceDiffuserPipeline) -> None:
    def stages(**given: Any) -> list[str]:
        seen: list[Trace] = []
        pipe(
            ONE,
            face(0),
            seeds=[1],
            num_inference_steps=10,
            output_type="latent",
            recorder=seen.append,
            **given,
        )
        assert [trace.step for trace in seen] == list(range(10))
        return [trace.stage for trace in seen]

    assert stages() == ["tdm"] * 4 + ["snf"] * 3 + ["sdm"] * 3
    assert stages(last_tdm_step=3, last_snf_step=6) == stages()
    assert stages(alpha=0.0, beta=0.5) == ["tdm"] + ["snf"] * 5 + ["sdm"] * 4
    with pytest.raises(UserError, match=r"alpha is 0\.6 and beta 0\.3"):
        pipe(ONE, face(0), alpha=0.6, beta=0.3)


def test_callback_sees_replaces_and_interrupts(pipe: FaceDiffuserPipeline) -> None:
    seen: list[tuple[int, int]] = []

    def note(pipeline: Any, step: int, t: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        assert pipeline is pipe and given["latents"].shape == (1, 4, 8, 8)
        seen.append((step, int(t)))
        return {"latents": torch.zeros_like(given["latents"])} if step == 3 else {}

    last = pipe(ONE, face(0), seeds=[1], output_type="latent", callback_on_step_end=note, **QUICK).images
    assert [step for step, _ in seen] == [0, 1, 2, 3] and pipe.num_timesteps == 4
    assert [t for _, t in seen] == pipe.scheduler.timesteps.tolist()
    assert not last.any()

    def stop(pipeline: Any, step: int, t: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        pipeline._interrupt = step == 1
        seen.append((step, int(t)))
        return given

    seen.clear()
    pipe(ONE, face(0), seeds=[1], output_type="latent", callback_on_step_end=stop, **QUICK)
    assert [step for step, _ in seen] == [0, 1]
    with pytest.raises(UserError, match="allowed: latents"):
        pipe(ONE, face(0), callback_on_step_end_tensor_inputs=["prompt_embeds"])


def test_where_the_noise_comes_from(pipe: FaceDiffuserPipeline) -> None:
    def run(**given: Any) -> Tensor:
        prompts, subjects = [ONE] * 2, [[face(0)]] * 2
        return pipe(prompts, subjects, output_type="latent", **QUICK, **given).images

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (3, 4)]

    assert torch.equal(run(seeds=[3, 4]), run(latents=seeded([3, 4], (4, 8, 8))))
    assert torch.equal(run(generator=generators()), run(generator=generators()))
    noisy = [run(seeds=[3, 4], eta=1.0), run(seeds=[3, 4], eta=1.0), run(seeds=[3, 4])]
    assert torch.equal(noisy[0], noisy[1]) and not torch.allclose(noisy[0], noisy[2])
    several = pipe(ONE, face(0), num_images_per_prompt=2, seeds=[3, 4], output_type="latent", **QUICK).images
    torch.testing.assert_close(several, run(seeds=[3, 4]))
    for given, said in (
        ({"seeds": [1]}, "1 seeds for 2 pictures"),
        ({"seeds": [1, 2], "generator": generators()}, "one of seeds, generator and latents"),
        ({"generator": generators()[:1]}, "1 generators for 2 pictures"),
        ({"latents": torch.zeros(2, 4, 9, 8)}, r"latents have shape \(2, 4, 9, 8\)"),
        ({"seeds": [1, 2], "eta": 2.0}, "eta is 2.0"),
        ({"seeds": [1, 2], "final_sigma": -1.0}, "final_sigma is -1.0"),
        ({"seeds": [1, 2], "final_sigma": float("nan")}, "final_sigma is nan"),
        (
            {"seeds": [1, 2], "final_sigma": 1000.0},
            "final_sigma is 1000.0; it must be a number from 0 to below",
        ),
    ):
        with pytest.raises(UserError, match=said):
            run(**given)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_drawing_may_end_early_and_the_bar_knows(pipe: FaceDiffuserPipeline, name: str) -> None:
    before = pipe.scheduler
    pipe.scheduler = make_scheduler(name, dict(before.config))
    calls: list[int] = []
    clean: list[Tensor] = []

    def seen(_: Any, call: int, t: Any, known: dict[str, Tensor]) -> dict[str, Tensor]:
        calls.append(call)
        clean.append(known["clean_latents"])
        return {}

    z = pipe(
        ONE, face(0), seeds=[1], output_type="latent", final_sigma=1.0, callback_on_step_end=seen,
        callback_on_step_end_tensor_inputs=("clean_latents",), **{**QUICK, "num_inference_steps": 10},
    ).images  # fmt: skip
    pipe.scheduler = before
    assert calls == list(range(pipe.num_timesteps)) and len(calls) < 10
    assert torch.equal(z, clean[-1])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(pipe: FaceDiffuserPipeline, name: str) -> None:
    before = pipe.scheduler
    pipe.scheduler = make_scheduler(name, dict(before.config))
    image = pipe(ONE, face(0), seeds=[1], **QUICK).images[0]
    pipe.scheduler = before
    assert np.asarray(image).std() > 1


def test_a_negative_prompt_and_the_interval_change_the_picture(pipe: FaceDiffuserPipeline) -> None:
    def run(**given: Any) -> Tensor:
        return pipe(ONE, face(0), seeds=[1], output_type="latent", **{**QUICK, **given}).images

    plain = run()
    assert not torch.allclose(run(negative_prompt="a beach"), plain)
    assert torch.equal(run(guidance_start=0.0, guidance_end=1.0), plain)
    assert not torch.allclose(run(guidance_end=0.5), plain)
    assert not torch.allclose(run(guidance_start=0.25, guidance_end=0.5), run(guidance_scale=1.0))


def test_only_what_is_opaque_is_the_subject(pipe: FaceDiffuserPipeline) -> None:
    rgba = np.dstack([np.asarray(face(0)), np.zeros((30, 24), np.uint8)])
    rgba[5:20, 5:20, 3] = 255
    behind = rgba.copy()
    behind[..., :3][behind[..., 3] == 0] = 77
    first, second = (pipe.encode_prompt(ONE, Image.fromarray(some)).augmented_BLD for some in (rgba, behind))
    assert torch.equal(first, second)
    assert not torch.allclose(first, pipe.encode_prompt(ONE, rgba[..., :3]).augmented_BLD)
    with pytest.raises(UserError, match="transparent everywhere"):
        pipe.encode_prompt(ONE, np.zeros((8, 8, 4), np.uint8))


def test_what_is_refused(pipe: FaceDiffuserPipeline, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    long = "a " + "very " * 40 + "tall woman <|image|>"
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("a woman", face(0)), {}, "has 0 markers <|image|>, but 1 subjects"),
        ((ONE,), {}, "has 1 markers <|image|>, but 0 subjects"),
        ((TWO, [face(0)]), {}, "has 2 markers <|image|>, but 1 subjects"),
        (("a woman",), {}, "no marker <|image|>"),
        ((ONE, face(0)), {"guider": "tdm"}, "draws no given subject"),
        ((ONE, face(0)), {"guider": "snv"}, "Did you mean 'snf'"),
        ((ONE, face(0)), {"guider_options": {"tempera": 2}}, "Did you mean 'temperature'"),
        ((ONE, face(0)), {"guidance_scale": -1}, "guidance_scale is -1"),
        ((ONE, face(0)), {"guidance_start": 0.5, "guidance_end": 0.5}, "guidance_start is 0.5"),
        ((ONE, face(0)), {"output_type": "pill"}, "Did you mean 'pil'"),
        ((ONE, face(0)), {"height": 65}, "height is 65; it must be a positive multiple of 32"),
        ((ONE, face(0)), {"num_inference_steps": 0}, "num_steps is 0"),
        ((ONE, tmp_path / "none.jpg"), {}, "none.jpg' is missing"),
        ((ONE, broken), {}, "cannot be read: no picture"),
        ((ONE, 3), {}, "a subject is int"),
        ((long, face(0)), {}, "past the text encoder's last"),
        (([ONE, ONE], [[face(0)]]), {}, "2 prompts, but subjects for 1"),
        (([ONE, ONE], face(0)), {}, "2 prompts need a list of 2 lists"),
    ]
    for positional, given, said in cases:
        with pytest.raises(UserError) as caught:
            pipe(*positional, **given)
        assert said in str(caught.value), str(caught.value)
        assert "\n" not in str(caught.value)


def test_parts_that_do_not_belong_together() -> None:
    other = tiny_backbone(1)
    other.scheduler_config = {**(other.scheduler_config or {}), "prediction_type": "v_prediction"}
    with pytest.raises(UserError, match="predict different things"):
        FaceDiffuserPipeline.from_backbones(tiny_backbone(0), other)
    with pytest.raises(UserError, match="needs a TDM or an SDM"):
        FaceDiffuserPipeline.from_backbones()
    alone = FaceDiffuserPipeline.from_backbones(tdm=tiny_sd15(0))
    alone.set_progress_bar_config(disable=True)
    assert alone("a woman", guider="tdm", seeds=[1], **QUICK).images[0].size == (64, 64)
    with pytest.raises(UserError, match="needs a SDM, but there is no sdm_unet"):
        alone(ONE, face(0))


def test_stable_diffusions_layout() -> None:
    pipe = FaceDiffuserPipeline.from_backbones(tiny_sd15(0), tiny_sd15(1, subjects=True))
    pipe.set_progress_bar_config(disable=True)
    assert pipe(TWO, [face(0), face(1)], seeds=[1], **QUICK).images[0].size == (64, 64)


def test_a_prompt_without_subjects_has_no_augmented_tokens(pipe: FaceDiffuserPipeline) -> None:
    embeddings = pipe.encode_prompt([TWO, "a woman"], [[face(0), face(1)], []])
    assert Conditioning(*embeddings).subject_token_BL.sum(1).tolist() == [2, 0]
