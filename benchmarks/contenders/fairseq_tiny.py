"""The architecture of the published Multi30k run, for fairseq's `--user-dir`: Wu et al. 2021 (arXiv 2105.14462)."""
from fairseq.models import register_model_architecture
from fairseq.models.transformer import base_architecture

SIZES = {"embed_dim": 128, "ffn_embed_dim": 256, "layers": 4, "attention_heads": 4}


@register_model_architecture("transformer", "transformer_tiny")
def transformer_tiny(args):
    for side in ("encoder", "decoder"):
        for name, size in SIZES.items():
            setattr(args, f"{side}_{name}", getattr(args, f"{side}_{name}", size))
    base_architecture(args)
