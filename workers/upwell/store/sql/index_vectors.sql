-- Vectors of this length can be looked for by nearness from now on.
SELECT index_vectors(%(dimensions)s)
