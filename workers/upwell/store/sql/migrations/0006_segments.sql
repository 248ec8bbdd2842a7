-- Who the user is, in the attributes that `cold_start.segments` names: `country=de`.
ALTER TABLE profiles ADD COLUMN segments text[] NOT NULL DEFAULT '{}';
