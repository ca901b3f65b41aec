-- The builds that the schema works with: those of version compatible_since and newer. A migration that only adds leaves
-- it. One that takes away what older builds use raises it, a release after the last build that used it.
CREATE TABLE schema_range (
    one              boolean PRIMARY KEY DEFAULT true CHECK (one),
    compatible_since integer NOT NULL
);
INSERT INTO schema_range (compatible_since) VALUES (1);

-- Settings on which every process must agree (rule T12). Processes with either value are right while old is not NULL: a
-- change is under way.
CREATE TABLE promises (
    name  text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL,
    old   text COLLATE "C" CHECK (old <> value)
);

---- create above / drop below ----

DROP TABLE promises;
DROP TABLE schema_range;
