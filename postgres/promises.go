package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// Promise is a setting on which every process must agree, as the database has it (rule T12).
type Promise struct {
	Name  string // of the flag, without dashes
	Value string
	Old   string // is right too, until it is retired; empty: no change is under way
}

// Allows says whether a process may have this value.
func (p Promise) Allows(value string) bool { return value == p.Value || p.Old != "" && value == p.Old }

// String names the values that a process may have.
func (p Promise) String() string {
	if p.Old == "" {
		return p.Value
	}
	return p.Value + " or " + p.Old + " (until it is retired)"
}

func readPromises(ctx context.Context, db database) (map[string]Promise, error) {
	rows, err := db.Query(ctx, "SELECT name, value, coalesce(old, '') FROM promises")
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Promise])
	if err != nil {
		return nil, err
	}
	promises := make(map[string]Promise, len(list))
	for _, p := range list {
		promises[p.Name] = p
	}
	return promises, nil
}

// Promises returns those that are stored, by name.
func (t *Topics) Promises(ctx context.Context) (map[string]Promise, error) {
	promises, err := readPromises(ctx, t.conn)
	if err != nil {
		return nil, trade.Classed(classOf(err), "cannot read the settings that are promises: %w", err)
	}
	return promises, nil
}

// Promise stores one, in place of what is stored under its name.
func (t *Topics) Promise(ctx context.Context, p Promise) error {
	_, err := t.conn.Exec(ctx, `INSERT INTO promises (name, value, old) VALUES ($1, $2, nullif($3, ''))
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, old = excluded.old`, p.Name, p.Value, p.Old)
	if err != nil {
		return trade.Classed(classOf(err), "cannot store the setting --%s: %w", p.Name, err)
	}
	return nil
}

// PromiseChecks compares the settings of a process, by name and value, with what is stored (rule T12). The list always
// has one row for each of them, in their order.
func PromiseChecks(ctx context.Context, pool *pgxpool.Pool, own []Promise) []checks.Check {
	stored, err := readPromises(ctx, pool)
	list := make([]checks.Check, 0, len(own))
	for _, p := range own {
		list = append(list, comparePromise(p, stored, err))
	}
	return list
}

func comparePromise(own Promise, stored map[string]Promise, err error) checks.Check {
	name := "--" + own.Name
	expected, known := stored[own.Name]
	switch {
	case sqlState(err) == undefinedTable, err == nil && !known:
		return checks.Compare("T12", name, "stored in the database", "not there: run tradestore migrate", false)
	case err != nil:
		return checks.CanNotTell("T12", name, "as stored in the database",
			fmt.Errorf("cannot read the settings that are promises: %w", err))
	case !expected.Allows(own.Value):
		return checks.Compare("T12", name, expected.String(), fmt.Sprintf(
			"%s: start with the expected value, or run 'tradestore migrate --set %s=%[1]s'", own.Value, own.Name), false)
	}
	return checks.Compare("T12", name, expected.String(), own.Value, true)
}
