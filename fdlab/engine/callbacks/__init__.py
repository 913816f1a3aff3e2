"""What happens beside the training steps: progress, curves, speed, checkpoints, interruption."""
