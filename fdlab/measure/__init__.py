"""Networks that measure pictures: faces, CLIP, features, judge; which of them an evaluation uses."""
