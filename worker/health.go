package worker

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

// health is the set of reasons why the worker does not apply. The zero value is healthy.
type health struct {
	mu      sync.Mutex
	reasons map[string]string // by the part of the worker that has the reason
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
