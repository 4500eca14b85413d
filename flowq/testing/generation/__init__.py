"""Makes up messages from types, with hypothesis. Only this room, `strategies` and what uses them need hypothesis.

It knows schemas, and nothing of pipelines."""
