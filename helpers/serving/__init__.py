"""A run's models behind interfaces of other programs: an HTTP API, and tools for assistants.

`http_server` serves OpenAI's and llama.cpp's routes (`routes`), `mcp_server` tools for assistants over
standard input and output (`mcp_tools`). Both load `served_models` and hand all computing to the one thread of
`engine`, which writes the texts of all requests together.
"""

__all__ = ["http_server", "mcp_server"]
