"""The marker of a subject in a prompt: it stands behind the noun that it marks."""

MARKER = "<|image|>"
