package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
	"github.com/rs/zerolog"

	"tradestore/migrations"
	"tradestore/trade"
)

const (
	// ternLock is the key of the advisory lock under which tern migrates, so that its command and this one take turns.
	ternLock = 9_628_173_550_095_224
	// lockPause is between two tries to get a lock. The running release works meanwhile: its statements wait at most
	// lockLimit behind one try.
	lockPause = 2 * time.Second
	// turnPause is between two looks whether another migrate has ended.
	turnPause = 200 * time.Millisecond
	// withoutTransaction marks a migration that tern runs without one, as CREATE INDEX CONCURRENTLY demands.
	withoutTransaction = "---- tern: disable-tx ----"
)

// Migrate brings the schema of the database at url to the version of this build, step by step, while servers and
// workers run. Repeating it is safe, and so is running it in several processes at once: one migrates, the others wait.
// A step that finds its table locked gives up after lockLimit and tries again later, so that nobody queues behind it
// for long; the logger of ctx (zerolog.Ctx) says so. A newer schema that works with this build is left as it is; any
// other newer one is an error.
func Migrate(ctx context.Context, url string) error { return migrateWith(ctx, url, migrations.FS) }

func migrateWith(ctx context.Context, url string, files fs.FS) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("cannot connect to migrate the database (--database-url): %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // releases the lock too
	if err := awaitTurn(ctx, conn); err != nil {
		return fmt.Errorf("cannot lock the schema: %w", err)
	}
	m, err := migrate.NewMigrator(ctx, conn, migrations.VersionTable)
	if err != nil {
		return fmt.Errorf("cannot read the schema version from %s: %w", migrations.VersionTable, err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return fmt.Errorf("cannot load the migrations of this build: %w", err)
	}
	have, err := m.GetCurrentVersion(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the schema version: %w", err)
	}
	if known := int32(len(m.Migrations)); have > known {
		return newerSchema(ctx, conn, have, known)
	}
	for _, step := range m.Migrations[have:] {
		if err := migrateStep(ctx, m, conn, step); err != nil {
			return fmt.Errorf("cannot migrate the schema to version %d: %w", step.Sequence, err)
		}
	}
	if err := completeIndexes(ctx, conn); err != nil {
		return fmt.Errorf("cannot complete the indexes of partitioned tables: %w", err)
	}
	return nil
}

// awaitTurn takes the lock of tern for this session. It asks again and again and never waits inside a statement: CREATE
// INDEX CONCURRENTLY of the holder would wait for that statement, for ever.
func awaitTurn(ctx context.Context, conn *pgx.Conn) error {
	for {
		var taken bool
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(ternLock)).Scan(&taken)
		if err != nil || taken {
			return err
		}
		if err := sleep(ctx, turnPause); err != nil {
			return err
		}
	}
}

// newerSchema returns an error unless a schema that is newer than all that this build knows works with it.
func newerSchema(ctx context.Context, conn querier, have, known int32) error {
	since, err := compatibleSince(ctx, conn)
	if err != nil {
		return fmt.Errorf("cannot read which builds the schema works with: %w", err)
	}
	if since <= known {
		return nil
	}
	return trade.Classed(trade.Broken,
		"the schema has version %d and works with builds of version %d and newer, this one has version %d: "+
			"run a newer tradestore", have, since, known)
}

// compatibleSince returns the version of the oldest build that works with the schema.
func compatibleSince(ctx context.Context, conn querier) (since int32, err error) {
	err = conn.QueryRow(ctx, "SELECT compatible_since FROM schema_range").Scan(&since)
	return since, err
}

// migrateStep makes one migration. In a transaction it waits at most lockLimit for a lock: whoever comes after it waits
// for it as well. Without a transaction it waits as long as it must, because the statements allowed there let others
// write meanwhile (migrations/lint_test.go).
func migrateStep(ctx context.Context, m *migrate.Migrator, conn *pgx.Conn, step *migrate.Migration) error {
	limit := lockLimit
	if strings.Contains(step.UpSQL, withoutTransaction) {
		limit = "0"
	}
	return untilUnlocked(ctx, step.Name, func() error {
		if _, err := conn.Exec(ctx, "SET lock_timeout = '"+limit+"'"); err != nil { // tern resets it with each step
			return err
		}
		return m.MigrateTo(ctx, step.Sequence)
	})
}

// untilUnlocked calls try until it gets its locks.
func untilUnlocked(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if code := sqlState(err); code != lockNotAvailable && code != deadlockDetected {
			return err
		}
		zerolog.Ctx(ctx).Warn().Err(err).Str("step", what).Stringer("again_in", lockPause).
			Msg("another session holds a lock that a migration needs; nothing was changed")
		if err := sleep(ctx, lockPause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pause):
		return nil
	}
}

// nextPartition returns a partition that lacks its part of an index that a migration made ON ONLY the whole table.
const nextPartition = `
	SELECT parent.indexrelid::regclass::text, part.inhrelid::regclass::text, pg_get_indexdef(parent.indexrelid),
		(SELECT relname FROM pg_class WHERE oid = parent.indexrelid), (SELECT relname FROM pg_class WHERE oid = part.inhrelid)
	FROM pg_index AS parent
	JOIN pg_class AS index ON index.oid = parent.indexrelid AND index.relkind = 'I'
	JOIN pg_inherits AS part ON part.inhparent = parent.indrelid
	WHERE NOT parent.indisvalid AND index.relnamespace = current_schema()::regnamespace AND NOT EXISTS (
		SELECT FROM pg_inherits AS attached JOIN pg_index AS child ON child.indexrelid = attached.inhrelid
		WHERE attached.inhparent = parent.indexrelid AND child.indrelid = part.inhrelid)
	ORDER BY 1, 2 LIMIT 1`

// completeIndexes builds what a migration left to do with CREATE INDEX ... ON ONLY a partitioned table: the index of
// each partition, one after the other, each CONCURRENTLY. It goes on where an earlier run ended.
func completeIndexes(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "RESET lock_timeout"); err != nil {
		return err
	}
	for {
		var index, partition, definition, indexName, partitionName string
		err := conn.QueryRow(ctx, nextPartition).Scan(&index, &partition, &definition, &indexName, &partitionName)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		create, _, _ := strings.Cut(definition, " INDEX ") // CREATE or CREATE UNIQUE
		_, columns, _ := strings.Cut(definition, " USING ")
		name := pgx.Identifier{partitionName + "_" + indexName}.Sanitize()
		err = inTurn(ctx, conn,
			"DROP INDEX CONCURRENTLY IF EXISTS "+name, // what a run left that did not come to its end
			fmt.Sprintf("%s INDEX CONCURRENTLY %s ON %s USING %s", create, name, partition, columns),
			fmt.Sprintf("ALTER INDEX %s ATTACH PARTITION %s", index, name))
		if err != nil && sqlState(err) != undefinedTable { // the sweep has dropped the day meanwhile
			return err
		}
	}
}

// inTurn runs statements, none of which may run in a transaction with another. The last one may have to wait for a lock
// that stops others.
func inTurn(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	last := len(statements) - 1
	for _, sql := range statements[:last] {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return untilUnlocked(ctx, statements[last], func() error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockLimit+"'; "+statements[last])
			return err
		})
	})
}
