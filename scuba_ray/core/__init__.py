"""The mathematics, as plain functions on tensors: torch and numpy only, no files, no configuration, no models.

Tensors stay on the device they came on. Shape suffixes, everywhere in the project:

    S stimuli   T trials   D embedding   V voxels   K bank images   A alphas   F folds   B batch   L tokens

`X_SD` is a design of S stimuli by D features, `Y_SV` responses, `W_DV` weights.
"""
