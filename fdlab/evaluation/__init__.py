"""The run: draw a benchmark with each method, measure, score, write records; the same while training."""
