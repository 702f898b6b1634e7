"""llama-swap in front of two tiny models."""

from swap_servers import start_swap, swap_models, swap_server  # noqa: F401
