"""Scores of models and of finished files."""
