"""Pure arithmetic: profiles, candidates, scores, shared learning. Arrays in, arrays out; NumPy, and Numba for the innermost loops."""
