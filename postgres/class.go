package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"tradestore/trade"
)

// SQLSTATE codes that are not handled by their class (the first two digits).
const (
	cardinalityViolation = "21000"
	uniqueViolation      = "23505"
	checkViolation       = "23514"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	undefinedTable       = "42P01"
	undefinedObject      = "42704"
	lockNotAvailable     = "55P03"
)

// classOf returns the class that err carries, else what classify makes of it.
func classOf(err error) trade.Class {
	var classed *trade.ClassError
	if errors.As(err, &classed) {
		return classed.Class
	}
	return classify(err)
}

// classify returns the class of a database error (section "Error classes" of docs/design.md). It uses codes alone,
// because texts change between releases (rule E8). An unknown error is Unavailable and the caller repeats, so an
// unexpected fault never turns a good trade into a failed one. CommitUnknown is decided where COMMIT is sent, not here.
func classify(err error) trade.Class {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return trade.Unavailable // no answer: time limit, lost connection, full pool
	}
	switch pg.Code {
	case uniqueViolation, serializationFailure, deadlockDetected:
		return trade.Repeatable // another writer was first: the next try sees its rows
	case cardinalityViolation:
		return trade.Broken // one statement would change a row twice: the plan has equal keys
	case checkViolation:
		if pg.ConstraintName == "" {
			return trade.Broken // no partition takes the row: the default partition is gone
		}
	}
	switch pg.Code[:2] {
	case "22", "23": // data exception, integrity constraint violation
		return trade.BadData
	case "42": // undefined table or column, missing privilege: not the schema of this build
		return trade.Broken
	}
	return trade.Unavailable // 08, 25, 53, 54, 55, 57, 58, and any unknown code
}

// sqlState returns the code of a database error, and the empty string for any other.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
