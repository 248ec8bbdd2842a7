"""Pure arithmetic: profiles, candidates, scores, shared learning. Arrays in, arrays out; NumPy and Numba are all it
imports."""
