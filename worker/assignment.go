package worker

import (
	"slices"
	"sync"
	"time"

	"tradestore/trade"
)

// held is the set of partitions that a lane holds, with the position of each. The group hands partitions out and takes
// them away on goroutines of the client, so every access is under the lock; positions of held partitions are moved by
// the lane alone.
type assignment struct {
	mu sync.Mutex
	at map[int32]*partitionState
}

// place is how far one partition has been applied, and how far it reaches.
type partitionState struct {
	next   int64     // the position as last read from, or committed to, the store
	epoch  int32     // the leader epoch that goes with it; -1 when unknown
	end    int64     // the log's end as last seen; 0 when never
	oldest time.Time // accepted at: the oldest record that is not applied, as far as known
	newest time.Time // accepted at: the last record polled
}

// take adds a partition, or moves one that is held.
func (h *assignment) add(p trade.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at = map[int32]*partitionState{}
	}
	end := int64(0)
	if old := h.at[p.Partition]; old != nil {
		end = old.end
	}
	h.at[p.Partition] = &partitionState{next: p.NextOffset, epoch: p.LeaderEpoch, end: end}
}

// drop removes partitions.
func (h *assignment) drop(partitions []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range partitions {
		delete(h.at, p)
	}
}

// next returns the position of a partition; ok is false when it is not held.
func (h *assignment) next(partition int32) (next int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.at[partition]; p != nil {
		return p.next, true
	}
	return 0, false
}

// polled notes what came with a fetch: the end of the log, and when its first and last record were accepted.
func (h *assignment) polled(partition int32, end int64, first, last time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.at[partition]; p != nil {
		p.end, p.oldest, p.newest = max(p.end, end), first, last
	}
}

// reaches notes the end of the log of a partition; -1 when it could not be read.
func (h *assignment) noteEnd(partition int32, end int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.at[partition]; p != nil {
		p.end = max(p.end, end)
	}
}

// advance moves the positions over spans that were committed.
func (h *assignment) advance(spans []trade.Span) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range spans {
		if p := h.at[s.Partition]; p != nil {
			p.next, p.epoch, p.end, p.oldest = s.Next, s.LeaderEpoch, max(p.end, s.Next), p.newest
		}
	}
}

// partitions returns the held partitions, ascending.
func (h *assignment) partitions() []int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]int32, 0, len(h.at))
	for p := range h.at {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// places returns a copy of all places.
func (h *assignment) states() map[int32]partitionState {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[int32]partitionState, len(h.at))
	for partition, p := range h.at {
		all[partition] = *p
	}
	return all
}
