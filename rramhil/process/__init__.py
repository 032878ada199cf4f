"""A real device in a process of its own: its lease, guard, ledger and driver live there.

    signals   what the host's C-level signal handler writes, and when it means outputs off
    messages  calls and answers on a socket: JSON heads and the bytes of arrays, never pickle
    switch    the outputs of a device, switched off once, from any thread, and timed
    remote    the device as it looks here
    child     the device process: one thread works, one watches the host
    calls     what it can be asked

See docs/processes.md. Importing this package loads nothing else.
"""
