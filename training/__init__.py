"""Training of the models that ship with Passerby; the pipeline never imports it."""
