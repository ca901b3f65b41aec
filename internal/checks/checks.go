// Package checks says what must hold of the stores before a role works with them, and while it does: a list of checks,
// each with what is expected and what was seen. The adapters make the checks; here they are counted and judged.
package checks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tradestore/trade"
)

// Status is the result of one check.
type Status string

// The results. Only Failed says that something is wrong, and no waiting mends it (rule T9).
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped" // need not hold here, or nobody there knows it; Seen says why
	Unknown Status = "unknown" // could not be made; Seen says why
)

// Check is one thing that must hold.
type Check struct {
	ID       string `json:"id"`   // of the rule: T1 to T7
	Name     string `json:"name"` // what is checked, like "partitions of the topic"
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Status   Status `json:"status"`
}

// Compare returns a check that was made: OK if it holds, else Failed.
func Compare(id, name, expected, seen string, holds bool) Check {
	c := Check{id, name, expected, seen, Failed}
	if holds {
		c.Status = OK
	}
	return c
}

// Skip returns a check that does not count, and why.
func Skip(id, name, expected, why string) Check { return Check{id, name, expected, why, Skipped} }

// CanNotTell returns a check that could not be made, and why.
func CanNotTell(id, name, expected string, err error) Check {
	return Check{id, name, expected, err.Error(), Unknown}
}

// ErrWrong marks a store that is not the one the service was set up for: a loud stop, never a retry (rule T9).
var ErrWrong = errors.New("checks failed")

// IsFatal reports whether err is a wrong answer and not a missing one: the stores or the schema are not what this build
// relies on. Waiting does not mend it, and going on would hide loss (rule T9).
func IsFatal(err error) bool {
	return err != nil && (trade.ClassOf(err) == trade.Broken || errors.Is(err, ErrWrong))
}

// Err judges a list. It returns nil if nothing in it is Failed or Unknown; an error that wraps ErrWrong, of class
// trade.Broken, that names every failed check; else one of class trade.Unavailable that says what can't be told.
func Err(checks []Check) error {
	var wrong, silent, causes []string
	for _, c := range checks {
		switch c.Status {
		case Failed:
			wrong = append(wrong, fmt.Sprintf("%s %s: expected %s, seen: %s", c.ID, c.Name, c.Expected, c.Seen))
		case Unknown:
			silent = appendNew(silent, c.ID)
			causes = appendNew(causes, c.Seen) // a store that is down is the cause of many
		case OK, Skipped:
		}
	}
	if wrong != nil {
		return trade.Classed(trade.Broken, "%w: %s", ErrWrong, strings.Join(wrong, "; "))
	}
	if silent != nil {
		return fmt.Errorf("cannot check %s: %s", strings.Join(silent, ", "), strings.Join(causes, "; "))
	}
	return nil
}

func appendNew(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}
