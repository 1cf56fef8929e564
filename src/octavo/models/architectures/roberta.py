"""RoBERTa (arXiv:1907.11692) and XLM-RoBERTa (arXiv:1911.02116), with embedding models and rerankers of their shape."""

from __future__ import annotations

from dataclasses import replace

from octavo.models.architectures.bert import BertModel


class RobertaModel(BertModel):
    """BERT with positions that begin behind the padding token's, and a head of its own."""

    names = replace(
        BertModel.names,
        base="roberta",
        head_dense="classifier.dense",
        head_output="classifier.out_proj",
        ignored=("pooler.", "lm_head."),
    )
