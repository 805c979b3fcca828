"""The shape of a compact network that is built in milliseconds, with a tower and prompts of its own."""

SMALL = {
    "width": 16,
    "depths": (1, 1),
    "tower_width": 32,
    "tower_layers": 1,
    "tower_heads": 2,
    "tower_grid": 2,
    "tower_output": 16,
    "prompt_heads": 2,
}
