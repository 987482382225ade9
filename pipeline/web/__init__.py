"""The HTTP API: thin over flows; routes are a table (`routes`), and every refusal is a `Problem` (`problems`)."""
