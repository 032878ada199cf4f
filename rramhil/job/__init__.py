"""One run: a job file carried out on a device, step by step, stoppable and resumable."""
