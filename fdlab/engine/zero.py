"""DeepSpeed's ZeRO: optimiser states (stage 1) and gradients (stage 2) shared out; weights stay whole.

Rajbhandari et al. 2020 (arXiv 1910.02054). DeepSpeed keeps slices of one long vector of all parameters;
states are read and written a parameter at a time, so that checkpoints are those of any other strategy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn

SLOTS = ("exp_avg", "exp_avg_sq")


class ZeRO(DeepSpeedStrategy):
    """Lightning's strategy, with weights in fp32 (`bf16`: computed with under autocast), on CPUs too."""

    def __init__(self, stage: int, clip: float, bf16: bool) -> None:
        self.bf16 = bf16
        config = {
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": clip,
            # For DeepSpeed's own log, which is not shown.
            "train_micro_batch_size_per_gpu": 1,
        }
        super().__init__(config=config)

    def setup_environment(self) -> None:
        """Lightning's hook; its own lets CUDA alone pass."""
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        """Lightning's hook; its own wants devices that have numbers."""
        if self.root_device.type == "cuda":
            super().setup_distributed()
            return
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(self, model: Any, optimizer: Any, lr_scheduler: Any = None) -> Any:
        """As Lightning's, for devices without a number too."""
        import deepspeed

        model.to(memory_format=torch.contiguous_format)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        engine, made, _, _ = deepspeed.initialize(
            config=self.config,
            model=model,
            model_parameters=learning,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, made

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Lightning's hook: one forward pass."""
        with torch.autocast(self.root_device.type, torch.bfloat16, enabled=self.bf16):
            return super().training_step(*args, **kwargs)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Lightning's hook. Lightning has divided the loss by the passes of a step; DeepSpeed would again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def completes_a_step(self) -> bool:
        """Whether the pass that comes next is the last of those that are added up."""
        return bool(self.deepspeed_engine.is_gradient_accumulation_boundary())

    def grad_norm(self) -> float:
        """Norm of the last step's gradient, before it was clipped; infinite where DeepSpeed refused it, and
        made no step."""
        norm = self.deepspeed_engine.get_global_grad_norm()
        return math.inf if norm is None else float(norm)


def states(optimizer: Any, trained: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Tensor]]:
    """What the optimiser keeps of each parameter, whole; all devices together."""
    from deepspeed.utils import safe_get_full_optimizer_state

    base = optimizer.optimizer
    steps = [state["step"] for state in base.state.values() if "step" in state]
    if not steps:
        return {}
    return {
        name: {"step": steps[0].clone()} | {slot: safe_get_full_optimizer_state(p, slot) for slot in SLOTS}
        for name, p in trained.items()
    }


def restore(optimizer: Any, trained: Mapping[str, nn.Parameter], kept: dict[str, dict[str, Tensor]]) -> None:
    """Put back what `states` gave; it is used up."""
    from deepspeed.utils import safe_set_full_optimizer_state

    if not kept:
        return
    step = next(iter(kept.values()))["step"]
    base = optimizer.optimizer
    for group in base.param_groups:
        for part in group["params"]:
            zeros = {slot: torch.zeros_like(part) for slot in SLOTS}
            base.state[part] = {
                "step": step.to(part.device if base.defaults.get("fused") else "cpu"),
                **zeros,
            }
    # Otherwise done by the first step: parameters learn where their slices of these states are.
    optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in trained.items():
        slots = kept.pop(name)
        for slot in SLOTS:
            safe_set_full_optimizer_state(parameter, slots[slot].to(parameter.device), slot)
