"""How good a model or a finished file is."""
