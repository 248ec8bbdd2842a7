"""Pure arithmetic: profiles, candidates, scores, shared learning. Arrays in, arrays out; numpy is all it imports."""
