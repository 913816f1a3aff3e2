"""Weights from elsewhere and for elsewhere: single files, released checkpoints, LoRA, whole pipelines."""
