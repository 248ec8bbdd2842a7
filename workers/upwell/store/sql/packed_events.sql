-- A user's packed last events (upwell.store.history.EVENT).
SELECT events FROM profiles WHERE user_id = %(user_id)s
