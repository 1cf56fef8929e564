"""DistilBERT (arXiv:1910.01108)."""

from __future__ import annotations

from octavo.models.layers.encoder import Encoder, EncoderNames


class DistilBertModel(Encoder):
    """BERT with half of the layers and no token types; its checkpoints have names of their own."""

    names = EncoderNames(
        base="distilbert",
        layers="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        output_norm="output_layer_norm",
        ignored=("vocab_",),
    )
