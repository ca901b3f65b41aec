package proc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked is returned when another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("in use by another process")

const lockRetry = 100 * time.Millisecond

// Lock takes the lock file at path, which it makes. The kernel frees the lock when the process ends, however it ends;
// the file stays. Errors: ErrLocked.
func Lock(path string) (unlock func(), err error) {
	lock := flock.New(path)
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if !locked {
		return nil, ErrLocked
	}
	return func() { _ = lock.Close() }, nil
}

// WaitLock takes the lock as soon as it is free. Errors: ErrLocked when ctx ends before.
func WaitLock(ctx context.Context, path string) (unlock func(), err error) {
	lock := flock.New(path)
	_, err = lock.TryLockContext(ctx, lockRetry)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("cannot lock %s, which is %w: %w", path, ErrLocked, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return func() { _ = lock.Close() }, nil
}
