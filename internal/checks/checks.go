// Package checks holds the results of the checks that a role makes of its stores, before it is ready and while it
// runs: for each check what is expected and what was seen. The adapters make the checks; this package counts and
// evaluates them.
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

// The results. Only Failed means that something is wrong that waiting does not mend (rule T9).
const (
	OK          Status = "ok"
	Failed      Status = "failed"
	Unconfirmed Status = "unconfirmed" // failed, but a failover can show the same for a moment (rule T8)
	Warning     Status = "warning"     // should be otherwise, and stops nothing
	Skipped     Status = "skipped"     // need not hold here, or the store does not know the setting; Seen says why
	Unknown     Status = "unknown"     // could not be made; Seen says why
)

// Check is one thing that must hold.
type Check struct {
	ID       string `json:"id"`   // of the rule: T1 to T7, T11 or T12
	Name     string `json:"name"` // what is checked, like "partitions of the topic"
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Status   Status `json:"status"`

	transient bool // a failover can show it for a moment
}

// Compare returns the result of a check that was made: OK if it holds, else Failed.
func Compare(id, name, expected, seen string, holds bool) Check {
	status := Failed
	if holds {
		status = OK
	}
	return Check{ID: id, Name: name, Expected: expected, Seen: seen, Status: status}
}

// Skip returns a check that need not hold, and why.
func Skip(id, name, expected, why string) Check {
	return Check{ID: id, Name: name, Expected: expected, Seen: why, Status: Skipped}
}

// Warn returns a check that should hold. If it does not, the status is Warning.
func Warn(id, name, expected, seen string, holds bool) Check {
	c := Compare(id, name, expected, seen, holds)
	if !holds {
		c.Status = Warning
	}
	return c
}

// CanNotTell returns a check that could not be made, and why.
func CanNotTell(id, name, expected string, err error) Check {
	return Check{ID: id, Name: name, Expected: expected, Seen: err.Error(), Status: Unknown}
}

// Transient returns the check with the mark that a failover can make it fail for a moment. A Monitor takes such a
// failure for true only when it is confirmed (rule T8).
func (c Check) Transient() Check {
	c.transient = true
	return c
}

func (c Check) String() string {
	return fmt.Sprintf("%s %s: expected %s, seen: %s", c.ID, c.Name, c.Expected, c.Seen)
}

// ErrWrong marks a failed check: the role stops and does not retry (rule T9).
var ErrWrong = errors.New("checks failed")

// IsFatal reports whether err is a wrong answer and not a missing one: the stores or the schema are not what this build
// relies on. Waiting does not mend it, and going on would hide loss (rule T9).
func IsFatal(err error) bool {
	return err != nil && (trade.ClassOf(err) == trade.Broken || errors.Is(err, ErrWrong))
}

// Err evaluates a list. It returns nil if no check is Failed, Unconfirmed or Unknown. With failed checks, the error
// wraps ErrWrong, has the class trade.Broken and names every failed check. Else it has the class trade.Unavailable and
// names the checks that could not be made and those that are not confirmed.
func Err(checks []Check) error {
	var failed, unconfirmed, unknown, causes []string
	for _, c := range checks {
		switch c.Status {
		case Failed:
			failed = append(failed, c.String())
		case Unconfirmed:
			unconfirmed = append(unconfirmed, c.String())
		case Unknown:
			unknown = appendNew(unknown, c.ID)
			causes = appendNew(causes, c.Seen) // a store that is down is the cause of many unknown checks
		case OK, Warning, Skipped:
		}
	}
	if failed != nil {
		return trade.Classed(trade.Broken, "%w: %s", ErrWrong, strings.Join(failed, "; "))
	}
	var parts []string
	if unconfirmed != nil {
		parts = append(parts, "not confirmed: "+strings.Join(unconfirmed, "; "))
	}
	if unknown != nil {
		parts = append(parts, "cannot check "+strings.Join(unknown, ", ")+": "+strings.Join(causes, "; "))
	}
	if parts == nil {
		return nil
	}
	return errors.New(strings.Join(parts, "; "))
}

func appendNew(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}
