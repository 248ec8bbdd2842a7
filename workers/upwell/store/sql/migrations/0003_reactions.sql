-- A user's feedback to contents: {format: [times shown, times liked]}, JSON.
ALTER TABLE profiles ADD COLUMN reactions bytea NOT NULL DEFAULT '{}';
