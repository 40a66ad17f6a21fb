"""The log between the stages: topics, their codecs, and the buses that carry them."""
