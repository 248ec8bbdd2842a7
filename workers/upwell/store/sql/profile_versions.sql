-- Every user's version, for whoever checks from outside that each event was counted once.
SELECT user_id, version FROM profiles
