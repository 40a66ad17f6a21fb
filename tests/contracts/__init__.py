"""One suite of behaviour a contract; each implementation inherits it."""
