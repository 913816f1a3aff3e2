"""fdlab: fine-tune diffusion models to draw given people in new scenes, and compare such methods honestly."""

__version__ = "0.1.0"
