package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tradestore/trade"
)

// fake is a store and a request store in memory that fails the test when the worker breaks the contract of an
// interface, and fails calls on demand, before or after they took effect.
type fake struct {
	t testing.TB

	mu        sync.Mutex
	of        trade.Position // topic and generation of the batches
	positions []trade.Position
	trades    map[trade.Key]trade.Trade
	highest   map[string]int32
	decided   map[trade.RequestID]struct{}
	journal   map[int32][]trade.Decision
	cursor    map[int32]int // outcomes projected, by partition
	dead      []trade.Record
	status    map[trade.RequestID]trade.Status // what clients see, once it is terminal
	entries   []trade.PendingRequest           // opened by a test, projected or not
	closed    map[trade.RequestID]trade.Decision
	refused   map[trade.RequestID]bool // outcomes that a request store before this one refuses
	calls     map[string]int
	now       func() time.Time
	ahead     time.Duration // of the clock of the store, to that of the workers
	sweptAt   time.Time     // the time that the last Sweep was given

	// fail is asked before and after each call took effect; a non-nil error is returned from the call.
	fail func(call string, n int, after bool, batch *trade.Batch) error
}

func newFake(t testing.TB, id trade.TopicID, partitions int) *fake {
	s := &fake{
		t: t, of: trade.Position{TopicID: id, Generation: 1}, now: time.Now, calls: map[string]int{},
		trades: map[trade.Key]trade.Trade{}, highest: map[string]int32{}, decided: map[trade.RequestID]struct{}{},
		journal: map[int32][]trade.Decision{}, cursor: map[int32]int{}, status: map[trade.RequestID]trade.Status{},
		closed: map[trade.RequestID]trade.Decision{}, refused: map[trade.RequestID]bool{},
	}
	for p := range partitions {
		s.positions = append(s.positions, trade.Position{TopicID: id, Generation: 1, Partition: int32(p), LeaderEpoch: -1})
	}
	return s
}

// begin counts a call and runs the fault before it. The lock is held between begin and the return of the call.
func (s *fake) begin(ctx context.Context, call string, batch *trade.Batch) (finish func() error, err error) {
	s.mu.Lock()
	s.calls[call]++
	n, fail := s.calls[call], s.fail
	s.mu.Unlock()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", call, ctx.Err())
	}
	if fail != nil {
		if err := fail(call, n, false, batch); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	return func() error {
		s.mu.Unlock()
		if fail != nil {
			return fail(call, n, true, batch)
		}
		return nil
	}, nil
}

func (s *fake) Positions(ctx context.Context) ([]trade.Position, error) {
	finish, err := s.begin(ctx, "Positions", nil)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(s.positions)
	return all, finish()
}

func (s *fake) Apply(ctx context.Context, b *trade.Batch) (trade.Applied, error) {
	s.check(b)
	finish, err := s.begin(ctx, "Apply", b)
	if err != nil {
		return trade.Applied{}, err
	}
	for _, span := range b.Spans {
		if at := s.positions[span.Partition].NextOffset; at != span.From {
			fenced := trade.Classed(trade.Fenced, "partition %d: %d stored, not %d", span.Partition, at, span.From)
			return trade.Applied{}, cmp.Or(finish(), fenced)
		}
	}
	for _, span := range b.Spans {
		s.positions[span.Partition].NextOffset, s.positions[span.Partition].LeaderEpoch = span.Next, span.LeaderEpoch
	}
	plan := trade.Decide(b.Records, s.highest, s.decided)
	applied := trade.Applied{
		Rows: len(plan.Inserts) + len(plan.Replaces), Duplicates: plan.Duplicates, DeadLetters: len(plan.DeadLetters),
	}
	for _, r := range slices.Concat(plan.Inserts, plan.Replaces) {
		s.trades[r.Trade.Key()] = r.Trade
		s.highest[r.Trade.TradeID] = max(s.highest[r.Trade.TradeID], r.Trade.Version)
	}
	for _, r := range plan.DeadLetters {
		s.dead = append(s.dead, *r)
		applied.Invalid++
	}
	for _, d := range plan.Decisions {
		if d.Reason == trade.StaleVersion {
			applied.Stale++
		}
		r := d.Record
		s.decided[r.ID] = struct{}{}
		s.journal[r.Partition] = append(s.journal[r.Partition], trade.Decision{
			RequestState: trade.RequestState{
				ID: r.ID, TradeID: r.Trade.TradeID, Status: d.Status, Reason: d.Reason,
				AcceptedAt: r.AcceptedAt, DecidedAt: s.now(),
			},
			Generation: b.Generation, Partition: r.Partition, Offset: r.Offset, TraceParent: r.TraceParent,
		})
	}
	return applied, finish()
}

// check is the contract of a batch.
func (s *fake) check(b *trade.Batch) {
	s.t.Helper()
	must := func(ok bool, format string, args ...any) {
		if !ok {
			s.t.Errorf("broken contract of Apply: "+format, args...)
		}
	}
	must(len(b.Records) > 0, "no records")
	must(b.TopicID == s.of.TopicID && b.Generation == s.of.Generation, "another topic")
	for i, span := range b.Spans {
		must(i == 0 || b.Spans[i-1].Partition < span.Partition, "spans not ascending: %v", b.Spans)
		must(span.From < span.Next, "empty span %v", span)
	}
	covered := map[int32]bool{}
	for i := range b.Records {
		r := &b.Records[i]
		covers := func(s trade.Span) bool {
			return s.Partition == r.Partition && r.Offset >= s.From && r.Offset < s.Next
		}
		must(slices.ContainsFunc(b.Spans, covers), "record %d/%d outside the spans %v", r.Partition, r.Offset, b.Spans)
		covered[r.Partition] = true
		if i > 0 {
			before := &b.Records[i-1]
			sorted := before.Partition < r.Partition || before.Partition == r.Partition && before.Offset < r.Offset
			must(sorted, "records not in log order")
		}
	}
	must(len(covered) == len(b.Spans), "spans without records: %v", b.Spans)
}

func (s *fake) Unprojected(ctx context.Context, partitions []int32, limit int) ([]trade.Decision, error) {
	finish, err := s.begin(ctx, "Unprojected", nil)
	if err != nil {
		return nil, err
	}
	distinct := slices.Compact(slices.Clone(partitions))
	if !slices.IsSorted(partitions) || len(distinct) != len(partitions) || len(partitions) == 0 {
		s.t.Errorf("broken contract of Unprojected: partitions %v", partitions)
	}
	var all []trade.Decision
	for _, p := range partitions {
		all = append(all, s.journal[p][s.cursor[p]:]...)
	}
	return interleave(all)[:min(limit, len(all))], finish()
}

func (s *fake) Projected(ctx context.Context, outcomes []trade.Decision) error {
	finish, err := s.begin(ctx, "Projected", nil)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if s.status[o.ID] != o.Status && !s.refused[o.ID] {
			s.t.Errorf("the cursor moved over %v, which clients can't see", o.ID)
		}
		for at, j := range s.journal[o.Partition] {
			if j.ID == o.ID {
				s.cursor[o.Partition] = max(s.cursor[o.Partition], at+1)
			}
		}
	}
	return finish()
}

func (s *fake) Pass(ctx context.Context, partitions []int32) error {
	finish, err := s.begin(ctx, "Pass", nil)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		s.cursor[p] = len(s.journal[p])
	}
	return finish()
}

func (s *fake) Project(ctx context.Context, outcomes []trade.Decision) error {
	finish, err := s.begin(ctx, "Project", nil)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if before, ok := s.status[o.ID]; ok && before != o.Status {
			s.t.Errorf("terminal status of %v changes from %s to %s", o.ID, before, o.Status)
		}
		s.status[o.ID] = o.Status
	}
	return finish()
}

func (s *fake) Pending(
	ctx context.Context, partitions []int32, before time.Time, limit int,
) ([]trade.PendingRequest, error) {
	finish, err := s.begin(ctx, "Pending", nil)
	if err != nil {
		return nil, err
	}
	var pending []trade.PendingRequest
	for _, p := range s.entries {
		_, held := slices.BinarySearch(partitions, p.Partition)
		if _, ended := s.status[p.ID]; held && !ended && p.AcceptedAt.Before(before) && len(pending) < limit {
			pending = append(pending, p)
		}
	}
	return pending, finish()
}

// outcomes needs the lock.
func (s *fake) outcomes(requests []trade.PendingRequest) (found []trade.Decision) {
	for _, p := range requests {
		if o, ok := s.closed[p.ID]; ok {
			found = append(found, o)
		}
		for _, o := range s.journal[p.Partition] {
			if o.ID == p.ID {
				found = append(found, o)
			}
		}
	}
	return found
}

func (s *fake) Decisions(ctx context.Context, requests []trade.PendingRequest) ([]trade.Decision, error) {
	finish, err := s.begin(ctx, "Outcomes", nil)
	if err != nil {
		return nil, err
	}
	found := s.outcomes(requests)
	return found, finish()
}

func (s *fake) Close(
	ctx context.Context, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest,
) ([]trade.Decision, error) {
	finish, err := s.begin(ctx, "Close", nil)
	if err != nil {
		return nil, err
	}
	if topic != s.of.TopicID || len(requests) == 0 {
		s.t.Errorf("broken contract of Close: topic %x, %d requests", topic, len(requests))
	}
	if next := s.positions[partition].NextOffset; next < end {
		return nil, cmp.Or(finish(), trade.Classed(trade.Fenced, "partition %d: %d stored, not %d", partition, next, end))
	}
	for _, p := range requests {
		if p.Partition != partition {
			s.t.Errorf("broken contract of Close: a request of partition %d, not %d", p.Partition, partition)
		}
		if _, decided := s.decided[p.ID]; decided {
			continue
		}
		s.decided[p.ID] = struct{}{}
		s.closed[p.ID] = trade.Decision{
			RequestState: trade.RequestState{
				ID: p.ID, Status: trade.Failed, Reason: trade.NotDelivered, AcceptedAt: p.AcceptedAt, DecidedAt: s.now(),
			},
			Generation: 1, Partition: partition, Offset: trade.NoOffset,
		}
	}
	found := s.outcomes(requests)
	return found, finish()
}

func (s *fake) Clock(context.Context) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Add(s.ahead), nil
}

func (s *fake) MakeDays(ctx context.Context, _ time.Time) error {
	finish, err := s.begin(ctx, "MakeDays", nil)
	if err != nil {
		return err
	}
	return finish()
}

func (s *fake) Summarize(ctx context.Context) (int, error) {
	finish, err := s.begin(ctx, "Summarize", nil)
	if err != nil {
		return 0, err
	}
	return 2, finish()
}

func (s *fake) Sweep(ctx context.Context, now time.Time, _ trade.Retention) (trade.Swept, error) {
	s.mu.Lock()
	s.sweptAt = now
	s.mu.Unlock()
	finish, err := s.begin(ctx, "Sweep", nil)
	if err != nil {
		return trade.Swept{}, err
	}
	return trade.Swept{JournalDays: 1, PendingRows: 2, JournalRows: 3, DeadLetters: 4}, finish()
}

// projected says how many requests clients see as terminal.
func (s *fake) projected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.status)
}

// count returns how often a call was made.
func (s *fake) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// next returns the sum of all positions: records applied, in a log without holes.
func (s *fake) next() (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.positions {
		sum += p.NextOffset
	}
	return sum
}

// failing sets the fault of the calls from now on.
func (s *fake) failing(f func(call string, n int, after bool, batch *trade.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}
