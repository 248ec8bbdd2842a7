-- Items nearest to a vector, by an index instead of by looking at all. pgvector's indices hold vectors of one length, and
-- which lengths there are depends on the models: there is an index for each, made by the worker that first writes one.
CREATE FUNCTION index_vectors(dimensions integer) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    -- Longer ones pgvector cannot index: they are compared one by one.
    IF dimensions > 2000 OR to_regclass(format('items_nearest_%s', dimensions)) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Two workers that begin at once would both make it.
    PERFORM pg_advisory_xact_lock(hashtext('items_nearest'), dimensions);
    -- Half of pgvector's default of links: a row costs .3 ms instead of 1 ms, less than its embedding.
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS items_nearest_%1$s ON items USING hnsw ((vector::vector(%1$s)) vector_cosine_ops) '
        'WITH (m = 8, ef_construction = 40) WHERE vector_dims(vector) = %1$s AND NOT deleted', dimensions
    );
END
$body$;

-- Items with a title whose vectors are of the same model, nearest first. Approximately: among 100,000 clustered vectors it
-- holds 97% of the 50 nearest ones and 63% of the 500 nearest. Iterative: where what is found first is of another model, or
-- has no title, the index goes on.
CREATE FUNCTION nearest_to(about vector, model text, most integer)
RETURNS TABLE (item_id text, title text, cosine double precision) LANGUAGE plpgsql STABLE
SET hnsw.ef_search = 500 SET hnsw.iterative_scan = strict_order AS $body$
BEGIN
    -- The length stands in the statement as a number: only then the planner sees that the index fits.
    RETURN QUERY EXECUTE format(
        'SELECT item_id, title, 1 - (vector::vector(%1$s) <=> $1) FROM items '
        'WHERE vector_dims(vector) = %1$s AND NOT deleted AND model_version = $2 AND title <> '''' '
        'ORDER BY vector::vector(%1$s) <=> $1 LIMIT $3', vector_dims(about)
    ) USING about, model, most;
END
$body$;

-- Those that are there already.
SELECT index_vectors(dimensions) FROM (SELECT DISTINCT vector_dims(vector) AS dimensions FROM items WHERE vector IS NOT NULL);
