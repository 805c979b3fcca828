"""Collections of images for training and evaluation: found, matched, aligned and cut into patches."""
