package migrations

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

// Every migration after the first runs while the release before it works, on tables with millions of rows. This lint
// refuses what would stop that release. It reads statements, not what they mean: what it can't judge it lets pass, so a
// review stays necessary.
func TestMigrationsDoNotDisturbTheRunningRelease(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(FS, "*.sql")
	require.NoError(t, err)
	var history []string // of the files before
	for i, name := range names {
		text, err := fs.ReadFile(FS, name)
		require.NoError(t, err)
		if i > 0 {
			require.Empty(t, lint(string(text), history), name)
		}
		history = append(history, string(text))
	}
	names, err = filepath.Glob("next/*.sql") // of the rehearsal
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Empty(t, lint(string(text), history), name)
	}
}

func TestTheLintFindsWhatBlocks(t *testing.T) {
	t.Parallel()
	const before = "CREATE TABLE trades (id text); CREATE TABLE journal (id text) PARTITION BY RANGE (id);"
	const alone = "---- tern: disable-tx ----\n"
	const contract = "UPDATE schema_range SET compatible_since = 9;"
	good := func(sql string) {
		t.Helper()
		require.Empty(t, lint(sql, []string{before}), sql)
	}
	bad := func(sql, want string) {
		t.Helper()
		require.Contains(t, strings.Join(lint(sql, []string{before}), "\n"), want, sql)
	}
	good("CREATE TABLE new (id text PRIMARY KEY); CREATE INDEX new_by_id ON new (id)")
	good("CREATE TABLE new (id text PRIMARY KEY); ALTER TABLE new ALTER id SET NOT NULL")
	good("ALTER TABLE trades ADD COLUMN note text")
	good("ALTER TABLE trades ADD COLUMN note text NOT NULL DEFAULT ''")
	good(alone + "DROP INDEX CONCURRENTLY IF EXISTS by_id; CREATE INDEX CONCURRENTLY by_id ON trades (id)")
	good("CREATE INDEX by_id ON ONLY journal (id)")
	good("ALTER TABLE trades ADD CONSTRAINT c CHECK (id <> '') NOT VALID")
	good("ALTER TABLE trades VALIDATE CONSTRAINT c")
	good("-- never CREATE INDEX x ON trades\nSELECT 1")
	good("ALTER TABLE trades DROP COLUMN note;" + contract)
	good("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE trades SET id = ''; END $$")
	good("SELECT 1\n---- create above / drop below ----\nDROP TABLE trades")

	bad("CREATE INDEX by_id ON trades (id)", "CONCURRENTLY")
	bad("CREATE UNIQUE INDEX IF NOT EXISTS by_id ON trades (id)", "CONCURRENTLY")
	bad("CREATE INDEX CONCURRENTLY by_id ON trades (id)", "disable-tx")
	bad(alone+"CREATE INDEX CONCURRENTLY by_id ON trades (id)", "DROP INDEX CONCURRENTLY IF EXISTS by_id")
	bad("DROP INDEX by_id", "CONCURRENTLY")
	bad("REINDEX TABLE trades", "CONCURRENTLY")
	bad("ALTER TABLE trades ALTER COLUMN id SET NOT NULL", "validated CHECK")
	bad("ALTER TABLE trades ALTER id TYPE bigint", "writes the table anew")
	bad("ALTER TABLE trades ALTER COLUMN id SET DATA TYPE bigint", "writes the table anew")
	bad("ALTER TABLE trades ADD COLUMN at timestamptz DEFAULT clock_timestamp()", "writes the table anew")
	bad("ALTER TABLE trades ADD at bigint GENERATED ALWAYS AS (1) STORED", "writes the table anew")
	bad("ALTER TABLE trades ADD COLUMN n bigserial", "writes the table anew")
	bad("ALTER TABLE trades ADD COLUMN n bigint UNIQUE", "scans the table")
	bad("ALTER TABLE trades ADD COLUMN n bigint CHECK (n > 0)", "scans the table")
	bad("ALTER TABLE trades ADD CONSTRAINT c CHECK (id <> '')", "NOT VALID")
	bad("ALTER TABLE trades ADD PRIMARY KEY (id)", "USING INDEX")
	bad("ALTER TABLE trades ADD CONSTRAINT c CHECK (id <> '') NOT VALID; ALTER TABLE trades VALIDATE CONSTRAINT c",
		"migration of its own")
	bad("ALTER TABLE trades SET LOGGED", "writes the table anew")
	bad("CLUSTER trades", "writes the table anew")
	bad("VACUUM FULL trades", "writes the table anew")
	bad("LOCK TABLE trades", "locks")
	bad("TRUNCATE trades", "locks")
	bad("ALTER TABLE journal DETACH PARTITION journal_1", "CONCURRENTLY")
	bad("UPDATE trades SET id = ''", "one transaction")
	bad("DELETE FROM trades WHERE id = ''", "one transaction")
	bad("DO $$ BEGIN UPDATE trades SET id = ''; END $$", "one transaction")
	bad("ALTER TABLE trades DROP COLUMN note", "compatible_since")
	bad("ALTER TABLE trades RENAME TO deals", "compatible_since")
	bad("DROP TABLE trades", "compatible_since")
	bad("ALTER TABLE trades ALTER id SET NOT NULL; "+contract, "validated CHECK")

	checked := []string{before, "ALTER TABLE trades ADD CONSTRAINT c CHECK (id IS NOT NULL) NOT VALID",
		"ALTER TABLE trades VALIDATE CONSTRAINT c"}
	require.Empty(t, lint("ALTER TABLE trades ALTER COLUMN id SET NOT NULL", checked))
	require.NotEmpty(t, lint("ALTER TABLE trades ALTER COLUMN id SET NOT NULL", checked[:2]))
}

// refused are statements that block the running release, by a pattern of the statement in lower case. Of the first
// group in a pattern, the table, only those count that an earlier migration made.
var refused = []struct{ pattern, except, why string }{
	{`^create (?:unique )?index .* ?on (?:only )?(\w+)`, `concurrently| on only `,
		"blocks writers: CREATE INDEX CONCURRENTLY, or ON ONLY a partitioned table (Migrate builds the rest)"},
	{`^drop index`, `concurrently`, "waits for all readers: DROP INDEX CONCURRENTLY"},
	{`^reindex`, `concurrently`, "blocks writers: REINDEX CONCURRENTLY"},
	{`^alter table (?:only )?(\w+) .*\badd (?:column )?.*(?:default [^,]*\(|generated .* stored|serial)`, ``,
		"writes the table anew: add the column without it"},
	{`^alter table (?:only )?(\w+) .*\badd (?:column )?(?:if not exists )?\w+ \w+.* (?:unique|primary key|references|` +
		`check)\b`,
		`add (?:constraint|check|foreign|primary|unique|exclude)`, "scans the table: add the column first"},
	{`^alter table (?:only )?(\w+) .*\balter (?:column )?\w+ (?:set data )?type\b`, ``,
		"writes the table anew: add another column"},
	{`^alter table (?:only )?(\w+) .*\badd (?:constraint \w+ )?(?:check|foreign key)`, `not valid`,
		"scans the table: NOT VALID, and VALIDATE CONSTRAINT in a migration of its own"},
	{`^alter table (?:only )?(\w+) .*\badd (?:constraint \w+ )?(?:primary key|unique|exclude)`, `using index`,
		"builds an index: CREATE UNIQUE INDEX CONCURRENTLY, then USING INDEX"},
	{`^alter table (?:only )?(\w+) .*\bset (?:logged|unlogged|tablespace|access method)`, ``, "writes the table anew"},
	{`^(?:cluster|vacuum full)`, ``, "writes the table anew"},
	{`^(?:lock|truncate)`, ``, "locks the table"},
	{`^alter table (?:only )?(\w+) detach partition`, `concurrently`, "locks the table: DETACH PARTITION CONCURRENTLY"},
	{`(?:^|begin |then |do )(?:update|delete from) (?:only )?(\w+)`, ``,
		"changes all rows in one transaction: let the program do it in small steps"},
}

var (
	comment   = regexp.MustCompile(`(?m)--.*$`)
	functions = regexp.MustCompile(`(?is)create (?:or replace )?(?:function|procedure).*?\$\$.*?\$\$`)
	blanks    = regexp.MustCompile(`\s+`)
	made      = regexp.MustCompile(`create table (?:if not exists )?(\w+)`)
	takesAway = regexp.MustCompile(`^(?:drop (?:table|view|function|type)|` +
		`alter table .*\b(?:drop column|rename|drop \w+$))`)
	notNull   = regexp.MustCompile(`^alter table (?:only )?(\w+) .*\balter (?:column )?(\w+) set not null`)
	addCheck  = regexp.MustCompile(`^alter table (?:only )?(\w+) add constraint (\w+) check \((\w+) is not null\)`)
	validates = regexp.MustCompile(`^alter table (?:only )?(\w+) validate constraint (\w+)`)
	buildsNew = regexp.MustCompile(`^create (?:unique )?index concurrently (?:if not exists )?(\w+)`)
)

// statements returns those that lead forward, each on one line in lower case. The bodies of functions are left out:
// they do nothing yet. Those of DO are cut like the rest.
func statements(file string) (list []string) {
	forward, _, _ := strings.Cut(file, "---- create above / drop below ----")
	text := functions.ReplaceAllString(comment.ReplaceAllString(forward, ""), "create function")
	for statement := range strings.SplitSeq(strings.ToLower(text), ";") {
		if s := strings.TrimSpace(blanks.ReplaceAllString(statement, " ")); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// lint returns what is wrong with a migration, given those before it.
func lint(file string, before []string) (found []string) {
	all, old := statements(file), statements(strings.Join(before, ";"))
	alone := strings.Contains(file, "---- tern: disable-tx ----")
	raises := strings.Contains(strings.Join(all, ";"), "update schema_range set compatible_since")
	for i, s := range all {
		why := blocks(s, old)
		if strings.Contains(s, " concurrently") && !alone {
			why = append(why, "needs the line ---- tern: disable-tx ----")
		}
		if takesAway.MatchString(s) && !raises {
			why = append(why,
				"takes away what older builds use: raise schema_range.compatible_since, a release after its last use")
		}
		why = append(why, outOfOrder(s, all[:i])...)
		for _, reason := range why {
			found = append(found, s+": "+reason)
		}
	}
	return found
}

// blocks returns why a statement would block the release that runs, given those of earlier migrations.
func blocks(s string, old []string) (why []string) {
	large := func(table string) bool {
		return !small[table] && slices.ContainsFunc(old, func(s string) bool {
			m := made.FindStringSubmatch(s)
			return len(m) > 1 && m[1] == table
		})
	}
	for _, rule := range refused {
		m := regexp.MustCompile(rule.pattern).FindStringSubmatch(s)
		if len(m) == 0 || len(m) > 1 && !large(m[1]) {
			continue
		}
		if rule.except == "" || !regexp.MustCompile(rule.except).MatchString(s) {
			why = append(why, rule.why)
		}
	}
	if m := notNull.FindStringSubmatch(s); len(m) > 2 && large(m[1]) && !provedNotNull(old, m[1], m[2]) {
		why = append(why,
			"scans the table under a lock: a validated CHECK (column IS NOT NULL) of an earlier migration comes first")
	}
	return why
}

// outOfOrder returns what is wrong with a statement after those before it in its migration.
func outOfOrder(s string, before []string) (why []string) {
	if m := buildsNew.FindStringSubmatch(s); len(m) > 1 &&
		!slices.Contains(before, "drop index concurrently if exists "+m[1]) {
		why = append(why,
			"an interrupted run leaves an invalid index: DROP INDEX CONCURRENTLY IF EXISTS "+m[1]+" comes first")
	}
	added := func(constraint string) bool {
		return slices.ContainsFunc(before, func(earlier string) bool {
			return strings.Contains(earlier, "add constraint "+constraint+" ")
		})
	}
	if m := validates.FindStringSubmatch(s); len(m) > 2 && added(m[2]) {
		why = append(why, "holds the lock of ADD CONSTRAINT while it scans: VALIDATE CONSTRAINT in a migration of its own")
	}
	return why
}

// small are tables with few rows, which may be changed as a whole.
var small = map[string]bool{"schema_range": true, "promises": true, "orphan_mark": true}

// provedNotNull says whether an earlier migration has added and validated the check that lets SET NOT NULL skip its
// scan.
func provedNotNull(old []string, table, column string) bool {
	for _, s := range old {
		if m := addCheck.FindStringSubmatch(s); len(m) > 3 && m[1] == table && m[3] == column {
			return slices.Contains(old, "alter table "+table+" validate constraint "+m[2])
		}
	}
	return false
}
