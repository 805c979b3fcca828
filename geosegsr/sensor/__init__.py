"""How a sensor makes lr pixels of the ground, and results that agree with what it saw."""
