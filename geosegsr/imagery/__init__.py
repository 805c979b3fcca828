"""Images to train and evaluate on: found, opened, matched to pairs, aligned, and cut into patches."""
