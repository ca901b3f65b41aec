ALTER TABLE trades ADD COLUMN next_note text;
ALTER TABLE journal ADD COLUMN next_note text NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN next_note text;
