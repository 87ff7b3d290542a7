"""Secrets planted in code of all supported languages, and harmless look-alikes, to measure the masking."""

__all__ = ["secret_check"]
