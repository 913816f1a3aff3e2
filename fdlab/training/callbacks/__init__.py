"""What happens beside the training steps of a denoiser: sample grids, a check of what was compiled."""
