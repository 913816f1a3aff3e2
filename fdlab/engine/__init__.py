"""Any training through Lightning: exact resume, averaged weights, devices, checkpoints, curves."""
