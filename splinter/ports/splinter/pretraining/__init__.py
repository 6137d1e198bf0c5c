"""Recurring span selection: raw text is mined for spans that recur, and Splinter is pretrained to select them."""
