"""The built-in nodes, one stage per file; the library under them is in `nodes.diffusion`."""
