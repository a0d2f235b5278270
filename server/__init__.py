"""The server: a durable queue, the API of ComfyUI and one of its own, over worker processes. Imports no torch."""
