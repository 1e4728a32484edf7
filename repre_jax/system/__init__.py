"""The process and its machine: processes, devices, terminal, command line, compile cache, large pages."""
