"""What would make a training fit into a device's memory: settings, one after the other, what each leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fdlab.engine.strategies import FSDP
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.footprint import Footprint, estimate
from fdlab.training.resting import rounded_to
from fdlab.training.settings import FitSettings


def economies(
    module: DenoisingTraining, settings: FitSettings, device: str, num: int, now: Footprint, room: int
) -> list[tuple[str, Footprint]]:
    """Overrides that save memory, added up until `room` bytes are enough (or no more is known), each with
    what then is held. What costs least comes first. The module is changed by it."""
    found = []
    for words, footprint in _tried(module, settings, device, num, now):
        if footprint.peak < now.peak:
            found.append((words, footprint))
            now = footprint
        if now.peak <= room:
            break
    return found


def _tried(
    module: DenoisingTraining, settings: FitSettings, device: str, num: int, now: Footprint
) -> Iterator[tuple[str, Footprint]]:
    def again(passes: Footprint | None = None) -> Footprint:
        return estimate(module, settings, device, num, passes)

    if not module.offload:
        module.offload = True
        now = again(now)
        yield "model.offload=true", now
    if module.frozen == "fp32" and rounded_to("auto", settings.loop, device) is not None:
        module.frozen = "auto"
        now = again()
        yield "model.frozen=auto", now
    if not settings.model["gradient_checkpointing"]:
        module.checkpoint_gradients()
        now = again()
        yield "model.gradient_checkpointing=true", now
    caches = not settings.data.cache_text and not module.text.learn
    if caches and settings.data.framing.crop != "random":
        settings = replace(settings, data=replace(settings.data, cache_latents=True, cache_text=True))
        now = again()
        yield "data.cache_latents=true data.cache_text=true", now
    if now.averages and device != "cpu" and settings.loop.strategy != FSDP:
        module.averaging.place = "cpu"
        now = again(now)
        yield "model.ema_device=cpu", now
    if module.optimization.optimizer == "adamw" and settings.loop.strategy in ("auto", "ddp"):
        module.optimization = replace(module.optimization, optimizer="adamw8bit")
        now = again(now)
        yield "model.optimizer=adamw8bit", now
    if now.averages:
        module.averaging.average = {}
        now = again(now)
        yield "model.ema_decay=0", now
    while settings.batch_size > 1:
        half, twice = settings.batch_size // 2, settings.loop.accumulate * 2
        settings = replace(settings, batch_size=half, loop=replace(settings.loop, accumulate=twice))
        now = again()
        yield f"trainer.batch_size={half} trainer.accumulate={twice}", now
