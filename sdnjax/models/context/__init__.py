"""Contexts: what works on the features between decoder and classifier."""
