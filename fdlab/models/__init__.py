"""Networks: backbones, subject encoder and fusion, attention maps, weights on disk, conversion."""
