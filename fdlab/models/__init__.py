"""Networks: backbones, subject encoder and fusion, attention maps."""
