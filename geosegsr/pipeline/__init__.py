"""From a scene to its COG: planned, computed block by block, resumed, verified and moved into place."""
