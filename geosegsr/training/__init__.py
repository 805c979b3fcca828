"""Training: patches of scenes, a sensor's degradation, one loop, one run folder."""
