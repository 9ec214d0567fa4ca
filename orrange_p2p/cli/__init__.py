"""The ``orrange`` command. ``main`` names the subcommands; each lives in a module of its own."""
