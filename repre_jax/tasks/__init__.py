"""Tasks that main.py can run: each is run(config, workdir) -> results."""
