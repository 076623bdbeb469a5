"""The command line ``motive``: thin commands over the public functions of ``motive_fo``."""
