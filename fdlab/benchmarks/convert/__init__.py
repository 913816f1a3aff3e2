"""From photos and prompts that a user has to a benchmark folder. Nothing here draws or measures."""
