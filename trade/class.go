package trade

import (
	"errors"
	"fmt"
)

// Class says what to do about an error of a store. Adapters derive it from codes, never from message text (rule E8).
// Callers switch on it and on nothing else.
type Class uint8

// The classes, by what the caller does next.
const (
	Unavailable   Class = iota // the store can't be reached or can't work now: repeat for ever, with backoff
	Repeatable                 // another writer was in the way, nothing was changed: repeat the whole transaction
	BadData                    // the store refuses the data: split the batch, dead-letter the single record
	CommitUnknown              // the connection broke during COMMIT: read the positions to find out
	Fenced                     // another worker owns a partition of the batch: drop the batch, reload, seek
	Broken                     // an assumption does not hold: stop loudly, change nothing
)

var classNames = [...]string{"unavailable", "repeatable", "bad_data", "commit_unknown", "fenced", "broken"}

// String returns the name of c, for logs and metric labels.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// ClassOf returns the class of err. An error without a class counts as Unavailable, so that an unknown fault is retried
// and never turns a good trade into a failed one (rule E5).
func ClassOf(err error) Class {
	var e *ClassError
	if errors.As(err, &e) {
		return e.Class
	}
	return Unavailable
}

// ClassError is an error of a store with its class.
type ClassError struct {
	Class Class
	Err   error
}

// Classed makes an error of a class, with a text as of fmt.Errorf.
func Classed(c Class, format string, args ...any) error {
	return &ClassError{c, fmt.Errorf(format, args...)}
}

func (e *ClassError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ClassError) Unwrap() error { return e.Err }

// ErrNotFound is returned by reads for something that does not exist.
var ErrNotFound = errors.New("not found")

// ErrNotOpened marks the error of a request whose PENDING entry certainly does not exist. An error of Open without this
// mark means "unknown": the entry may exist or still appear.
var ErrNotOpened = errors.New("request not opened")
