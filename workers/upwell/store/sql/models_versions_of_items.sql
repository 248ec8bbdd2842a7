SELECT DISTINCT model_version FROM items WHERE vector IS NOT NULL
