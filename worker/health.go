package worker

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// health is the set of reasons why the worker does not apply. The zero value is healthy.
type health struct {
	mu      sync.Mutex
	reasons map[string]string // by the part that has it
}

func (h *health) set(part, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons == nil {
		h.reasons = map[string]string{}
	}
	h.reasons[part] = reason
}

func (h *health) clear(part string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reasons, part)
}

// err returns all reasons in one error, or nil.
func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.reasons) == 0 {
		return nil
	}
	return errors.New(strings.Join(slices.Sorted(maps.Values(h.reasons)), "; "))
}

// pause returns a random time to wait before the repeat after the given number of failures: full jitter under a bound
// that doubles, so that workers that failed together don't come back together.
func (w *Worker) pause(failures int) time.Duration {
	bound := w.cfg.RetryMax
	if failures < 16 {
		bound = min(bound, w.cfg.RetryMin<<failures)
	}
	return rand.N(bound) + 1
}
