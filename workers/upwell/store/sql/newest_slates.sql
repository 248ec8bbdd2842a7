-- Items of the users' newest slates, best first.
SELECT user_id, slate_items
FROM profiles
WHERE user_id = ANY(%(user_ids)s::text[])
