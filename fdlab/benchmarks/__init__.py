"""Benchmarks as data: subjects, prompts, pictures asked for, how they are scored; conversion from photos."""
