"""Photos made training data, stage by stage."""
