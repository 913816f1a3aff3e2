"""The three stages as a diffusers pipeline."""
