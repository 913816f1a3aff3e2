"""The maths of diffusion on tensors alone: noise, losses, guidance, saliency, guiders, stages, sampler."""
