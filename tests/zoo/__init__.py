"""Targets that are wrong on purpose, right in every convention, or hostile."""
