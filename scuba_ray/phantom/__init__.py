"""The phantom: a cortex whose truth is known, and the small models trained on its scenes.

As a scanner is calibrated on an object whose inside is known, the whole system is tried on rendered scenes of emoji drawings and
on simulated voxels with planted tuning. Everything here writes files in the formats of the real thing.
"""
