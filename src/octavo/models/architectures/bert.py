"""BERT (arXiv:1810.04805), and embedding models and cross-encoders of its shape, such as MiniLM, BGE and E5."""

from __future__ import annotations

from octavo.models.layers.encoder import Encoder, EncoderNames


class BertModel(Encoder):
    """Post-norm encoder with learned positions and two token types."""

    names = EncoderNames(
        base="bert",
        layers="encoder.layer",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        up="intermediate.dense",
        down="output.dense",
        output_norm="output.LayerNorm",
        head_dense="pooler.dense",
        head_output="classifier",
        ignored=("pooler.", "cls."),
    )
