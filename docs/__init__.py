"""Documentation, and what draws the two pages of the schema from a live one: `python -m docs.draw_schema`."""
