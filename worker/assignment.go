package worker

import (
	"maps"
	"slices"
	"sync"
	"time"

	"tradestore/trade"
)

// assignment is the set of partitions that a lane holds, with the state of each. The group assigns and revokes
// partitions on goroutines of the client, so every access is under the lock. Only the lane moves the positions of held
// partitions. The zero value holds none.
type assignment struct {
	mu          sync.Mutex
	byPartition map[int32]*partitionState
}

// partitionState says how far one partition is applied, and where it ends.
type partitionState struct {
	next   int64     // the position as last read from, or committed to, the store
	epoch  int32     // the leader epoch that goes with it; -1 when unknown
	end    int64     // of the log, as last seen; 0 when never
	oldest time.Time // when the oldest record that is not applied was accepted, as far as known
	newest time.Time // when the last record polled was accepted
}

// add adds a partition, or moves the position of one that is held.
func (a *assignment) add(p trade.Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byPartition == nil {
		a.byPartition = map[int32]*partitionState{}
	}
	end := int64(0)
	if before := a.byPartition[p.Partition]; before != nil {
		end = before.end
	}
	a.byPartition[p.Partition] = &partitionState{next: p.NextOffset, epoch: p.LeaderEpoch, end: end}
}

// drop removes partitions.
func (a *assignment) drop(partitions []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range partitions {
		delete(a.byPartition, p)
	}
}

// update calls change with the state of a partition, if that is held.
func (a *assignment) update(partition int32, change func(p *partitionState)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.byPartition[partition]; p != nil {
		change(p)
	}
}

// next returns the position of a partition; ok is false when it is not held.
func (a *assignment) next(partition int32) (next int64, ok bool) {
	a.update(partition, func(p *partitionState) { next, ok = p.next, true })
	return next, ok
}

// notePoll notes what a fetch says: the end of the log, and when its first and last record were accepted.
func (a *assignment) notePoll(partition int32, end int64, first, last time.Time) {
	a.update(partition, func(p *partitionState) { p.end, p.oldest, p.newest = max(p.end, end), first, last })
}

// noteEnd notes the end of the log of a partition; -1 when it could not be read.
func (a *assignment) noteEnd(partition int32, end int64) {
	a.update(partition, func(p *partitionState) { p.end = max(p.end, end) })
}

// advance moves the positions over spans that were committed.
func (a *assignment) advance(spans []trade.Span) {
	for _, s := range spans {
		a.update(s.Partition, func(p *partitionState) {
			p.next, p.epoch, p.end, p.oldest = s.Next, s.LeaderEpoch, max(p.end, s.Next), p.newest
		})
	}
}

// partitions returns the held partitions, ascending.
func (a *assignment) partitions() []int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.byPartition))
}

// states returns a copy of the states of all held partitions.
func (a *assignment) states() map[int32]partitionState {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[int32]partitionState, len(a.byPartition))
	for partition, p := range a.byPartition {
		all[partition] = *p
	}
	return all
}
