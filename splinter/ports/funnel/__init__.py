"""Funnel-Transformer: an encoder that halves its sequence block by block, with QNLI and SQuAD heads."""
