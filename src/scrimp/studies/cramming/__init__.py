"""Cramming: a masked language model in a fixed budget."""
