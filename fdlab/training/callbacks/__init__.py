"""What happens beside the training steps: progress, curves, checkpoints, sample grids, interruption."""
