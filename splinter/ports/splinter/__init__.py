"""Splinter: few-shot question answering by span selection."""
