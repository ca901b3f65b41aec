package loadtest

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"

	"tradestore/trade"
)

// namedOffenders is how many offenders of each kind are named.
const namedOffenders = 5

// compare judges every trade, with what is stored of it.
func (r *reconciler) compare(ctx context.Context) error {
	var tables *stored
	r.rec.By = "HTTP"
	if r.db != nil {
		var err error
		if tables, err = r.db.read(ctx, r.plan.Prefix(), r.results.Began(), r.groupOf); err != nil {
			return err
		}
		r.rec.By = "HTTP and SQL"
		r.tally.add(r.last+1, tables.unexpected)
	}
	return r.each(ctx, len(r.groups), func(ctx context.Context, g int) error {
		defer r.advance(1)
		h := r.history(g)
		if tables != nil {
			h.sql = true
			h.rows, h.journal = tables.group(uint32(g))
		} else if err := r.readRows(ctx, h); err != nil {
			return err
		}
		found := h.judge()
		r.tally.add(h.posts[0].seq, found)
		r.tally.count(h)
		return nil
	})
}

// readRows reads the versions of the trade by HTTP.
func (r *reconciler) readRows(ctx context.Context, h *history) error {
	tradeID := h.posts[0].trade.TradeID
	if tradeID == "" { // all bodies were invalid
		return nil
	}
	versions, err := r.api.Trade(ctx, tradeID)
	if errors.Is(err, ErrAnswer) {
		h.unreadable = err.Error()
		return nil
	}
	for i := range versions {
		h.rows = append(h.rows, row{version: versions[i].Version, content: digest(&versions[i])})
	}
	return err
}

// history collects what the answers say about group g.
func (r *reconciler) history(g int) *history {
	begin, end := int(r.groups[g]), len(r.index)
	if g+1 < len(r.groups) {
		end = int(r.groups[g+1])
	}
	h := &history{posts: make([]post, end-begin)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, k := range r.index[begin:end] {
		result, _ := r.results.Get(k.seq)
		op := r.plan.Op(k.seq)
		h.posts[i] = post{seq: k.seq, trade: op.Trade, content: digest(&op.Trade), verdict: verdictOf(&result),
			status: result.Status,
			id:     result.Request, sent: result.Sent, done: result.Done, shown: r.states[k.shown], problem: r.problems[k.seq]}
		if op.Kind == Bad {
			h.posts[i].problem = "a body that is no trade was answered 202"
		}
	}
	return h
}

// groupOf returns the group of a trade id. known: it has a group. ours: no other attack of the run has it.
func (r *reconciler) groupOf(tradeID string) (group uint32, known, ours bool) {
	n, ok := operationNumber(tradeID, r.plan.Prefix())
	if !ok {
		return 0, false, true
	}
	seq := n - r.plan.first
	if n < r.plan.first || seq > r.last {
		return 0, false, false
	}
	g, ok := slices.BinarySearchFunc(r.groups, seq, func(i uint32, seq uint64) int {
		return cmp.Compare(r.index[i].group, seq)
	})
	return uint32(g), ok && r.plan.TradeID(seq) == tradeID, true
}

var seed = maphash.MakeSeed()

// digest is a hash of the fields that are not the key; 0 if there are none.
func digest(t *trade.Trade) uint64 {
	if t.CounterpartyID == "" {
		return 0
	}
	return maphash.Comparable(seed, [4]string{t.CounterpartyID, t.BookID, t.MaturityDate.String(), t.CreatedDate.String()})
}

// tally counts findings. It is safe for concurrent use.
type tally struct {
	mu      sync.Mutex // protects what follows
	counts  [wrong + 1]uint64
	first   [wrong + 1][]namedOffender // those of the lowest numbers, in their order
	success uint64
	failed  uint64
	rows    uint64
}

type namedOffender struct {
	seq  uint64
	text string
}

// add adds the findings of a trade whose first operation is seq.
func (t *tally) add(seq uint64, found []finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range found {
		t.counts[f.kind]++
		first := &t.first[f.kind]
		*first = append(*first, namedOffender{seq, f.text})
		slices.SortStableFunc(*first, func(a, b namedOffender) int { return cmp.Compare(a.seq, b.seq) })
		*first = (*first)[:min(len(*first), namedOffenders)]
	}
}

// count counts a history that was judged.
func (t *tally) count(h *history) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows += uint64(len(h.rows))
	for i := range h.posts {
		switch p := &h.posts[i]; {
		case p.verdict != Accepted || p.counted:
		case p.shown.status == trade.Success:
			t.success++
		default:
			t.failed++
		}
	}
}

// fill writes the findings into the report.
func (t *tally) fill(rec *Reconciliation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec.Success, rec.Failed, rec.Rows = t.success, t.failed, t.rows
	for kind, into := range [...]*Offenders{lost: &rec.Lost, doubled: &rec.Doubled, stuck: &rec.Stuck, wrong: &rec.Wrong} {
		into.Count = t.counts[kind]
		for _, o := range t.first[kind] {
			into.First = append(into.First, o.text)
		}
	}
}
