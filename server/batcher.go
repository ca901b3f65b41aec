package server

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/failpoint"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// submissionOverhead is what a request costs in memory beside its body: buffers, the record, bookkeeping.
const postOverhead = 2 << 10

// The stages of a submission. A stage is left by compare-and-swap, so that the handler that gives up and the flush that
// goes on agree on what has happened.
const (
	queued    int32 = iota // nothing was sent: the call has no effect
	opening                // PENDING was, or is being, sent
	producing              // the record was handed to the producer
	abandoned              // the client was answered: nothing may be sent any more
)

// ackWait is how long a flush waits for its acknowledgements before it takes the next batch.
const ackWait = 50 * time.Millisecond

// delivery counts the records of one flush that the brokers have not acknowledged.
type delivery struct {
	left atomic.Int32  // and one for the flush, until it has handed over its last
	done chan struct{} // closed when nothing is left
}

func newDelivery() *delivery {
	d := &delivery{done: make(chan struct{})}
	d.begin()
	return d
}

func (d *delivery) begin() { d.left.Add(1) }

func (d *delivery) end() {
	if d.left.Add(-1) == 0 {
		close(d.done)
	}
}

// wait ends the part of the flush, and returns when everything is acknowledged or has failed, or after limit.
func (d *delivery) wait(limit time.Duration) {
	d.end()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-d.done:
	case <-late.C:
	}
}

// leastInLine is how many submissions may be under way before a rate is known, or after a store has stood still.
const leastInLine = 256

// submission is one accepted POST on its way to the log. It shares no memory with the HTTP connection.
type pendingPost struct {
	req     trade.Request
	keyed   *keyed // nil without an idempotency key
	cost    int    // bytes held until the answer: the connection keeps the body as long as its handler waits
	arrived time.Time
	span    trace.Span // nil: not traced
	under   *delivery  // set by the flush that takes it
	stage   atomic.Int32
	replied atomic.Bool
	answer  chan answer // has room for this one, which is written once: nobody waits for a handler that gave up
	index   int         // among the items of its request
}

// answer is what became of a submission. Without a code, all in-sync replicas have the record.
type answer struct {
	of       *pendingPost
	code     trade.Code
	detail   string
	stored   trade.Stored // instead of a stale version, where known
	replayed bool         // by an earlier call with the same key
}

// giveUp ends the wait of the handler and says whether PENDING may have been sent. After it the batcher sends nothing
// more for s, except where it was on its way already.
func (s *pendingPost) giveUp() (sent bool) { return s.stage.Swap(abandoned) != queued }

// batcher takes submissions from handlers to the log: version look-up, PENDING, produce. There is no timer. A flush
// takes what has gathered while the one before it was under way, so batches grow with the load and an idle service
// answers at once. A flush ends when its records are acknowledged, so that the next one is as large as the brokers are
// slow; ackWait bounds that, or a partition without a leader would hold up all others of its share.
//
// Flushes run side by side, each for its share of the partitions. So each has more records for fewer partitions, and all
// submissions of a trade pass one after the other: those of one request are in the log in its order, and a client that
// waits for one answer before it sends the next request finds both in the log in this order, because a record is produced
// before its submission is answered, or never.
type batcher struct {
	cfg      *Config
	requests RequestStore
	keys     KeyedStore
	trades   TradeReader
	client   *kgo.Client
	log      zerolog.Logger
	tracer   *telemetry.Tracer
	m        *metrics
	ackWait  time.Duration // replaced in tests

	flushes sync.WaitGroup

	mu     sync.Mutex // protects what follows
	shares []share    // partition p belongs to number p modulo their count
	load   load       // what the limits are about, but for those that wait
	closed bool       // no submission is taken any more
	rate   rate
}

// share is the queue of one flush.
type share struct {
	gathered sync.Cond // signalled when waiting grows, or the batcher is closed
	waiting  []*pendingPost
}

// load is what the batcher holds.
type load struct {
	waiting int // submissions that no flush has taken
	items   int // submissions that have no answer
	bytes   int // that those hold
}

func newBatcher(cfg *Config, deps *Deps, m *metrics) *batcher {
	b := &batcher{cfg: cfg, requests: deps.Requests, keys: deps.Keys, trades: deps.Trades, client: deps.Kafka, tracer: deps.Tracer, m: m, ackWait: ackWait}
	b.log = telemetry.Sampled(deps.Log) // an outage fails every batch
	b.shares = make([]share, cfg.Flushes)
	for i := range b.shares {
		b.shares[i].gathered.L = &b.mu
	}
	b.rate.since = time.Now()
	return b
}

// run starts the flushes, unless close came first. They end after it.
func (b *batcher) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	for i := range b.shares {
		q := &b.shares[i]
		b.flushes.Go(func() {
			for batch := b.take(q); batch != nil; batch = b.take(q) {
				b.flush(batch)
			}
		})
	}
}

// close takes no more submissions and waits until what was taken is handed to the producer.
func (b *batcher) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	for i := range b.shares {
		b.shares[i].gathered.Signal()
	}
	b.mu.Unlock()
	done := make(chan struct{})
	go func() { b.flushes.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit puts submissions in the queue, in their order, or says why not. From the first one that there is no room for all
// are shed, so that none overtakes another one of its trade. It calls no store: shedding stays cheap however slow they are.
func (b *batcher) admit(line ...*pendingPost) (admitted int, shed *problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range line {
		if cause, shed := b.noRoom(s); shed != nil {
			b.m.shed[cause].Add(float64(len(line) - i))
			return i, shed
		}
		b.load.items++
		b.load.bytes += s.cost
		q := &b.shares[int(s.req.Partition)%len(b.shares)]
		q.waiting = append(q.waiting, s)
		q.gathered.Signal()
	}
	return len(line), nil
}

// noRoom says why s can't be admitted, or nothing.
func (b *batcher) noRoom(s *pendingPost) (cause string, shed *problem) {
	switch {
	case b.closed:
		return shedClosed, &problem{code: ShuttingDown, detail: "repeat the request: another server may take it"}
	case b.load.items >= b.cfg.QueueItems:
		return shedItems, &problem{code: QueueFull, detail: "the setting queue-items limits requests under way", retryAfter: b.retryAfter()}
	case b.load.bytes+s.cost > b.cfg.QueueBytes:
		return shedBytes, &problem{code: QueueFull, detail: "the setting queue-bytes limits requests under way", retryAfter: b.retryAfter()}
	case b.late(s.arrived):
		return shedLate, &problem{code: QueueFull, detail: "more requests are under way than the stores take before the setting accept-deadline", retryAfter: b.retryAfter()}
	}
	return "", nil
}

// late says that the line is longer than can be served in time. It looks at the rate only once the first in line has
// waited for a good part of the deadline: until then what was answered per second was what was asked for, not what the
// stores can do. Without it an overload fills the queue with requests that are opened and then too late to be produced.
func (b *batcher) late(now time.Time) bool {
	longest := time.Duration(-1)
	for i := range b.shares {
		if line := b.shares[i].waiting; len(line) > 0 {
			longest = max(longest, now.Sub(line[0].arrived))
		}
	}
	if longest < b.cfg.AcceptDeadline/8 {
		return false
	}
	inTime := b.rate.at(now) * b.cfg.AcceptDeadline.Seconds() / 2
	return float64(b.load.items) >= max(inTime, leastInLine)
}

// retryAfter is how many seconds it takes to answer what is held now, at the rate measured last.
func (b *batcher) retryAfter() int {
	const most = 30
	perSecond := b.rate.at(time.Now())
	if perSecond <= 0 {
		return most
	}
	return int(min(max(math.Ceil(float64(b.load.items)/perSecond), 1), most))
}

// take waits for submissions of a share and returns what has gathered, at most MaxBatch; nil after close, when none is left.
func (b *batcher) take(q *share) []*pendingPost {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(q.waiting) == 0 && !b.closed {
		q.gathered.Wait()
	}
	n := min(len(q.waiting), b.cfg.MaxBatch)
	if n == 0 {
		return nil
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

// flush takes a batch as far as the producer. Requests under keys go last: what they cost more, nobody else waits for.
func (b *batcher) flush(batch []*pendingPost) {
	defer b.rescue(batch)
	now := time.Now()
	b.m.batchSize.Observe(float64(len(batch)))
	under := newDelivery()
	for _, s := range batch {
		s.under = under
		telemetry.Observe(b.m.queueWait, now.Sub(s.arrived).Seconds(), s.req.TraceParent)
		if s.span != nil {
			b.tracer.Record(s.span.SpanContext(), spanQueue, s.arrived, now, nil, ofBatch(batch))
		}
	}
	plain, keyed := splitByKey(batch)
	b.deliver(plain, b.open)
	b.deliver(b.withFreeKeys(keyed), b.openKeyed)
	under.wait(b.ackWait)
}

// deliver looks up versions, opens and produces. A crash before open returns leaves PENDING entries, or nothing; one after
// it leaves PENDING entries without a record, or with a record that the worker decides. No client was told yes.
func (b *batcher) deliver(batch []*pendingPost, open func([]*pendingPost) []error) {
	if len(batch) == 0 {
		return
	}
	maxima := b.lookUp(batch)
	opened := make([]*pendingPost, 0, len(batch))
	var stale []*pendingPost
	for _, s := range batch {
		switch {
		case s.req.Trade.Version < maxima[s.req.Trade.TradeID]:
			stale = append(stale, s)
		case s.stage.CompareAndSwap(queued, opening):
			opened = append(opened, s)
		default: // its deadline passed while it waited
			b.reply(s, answer{code: DeadlineExceeded})
		}
	}
	b.openAll(opened, open)
	b.refuseStale(stale, maxima) // after the good ones, which its look-up would delay
}

// openAll sends PENDING for the submissions and produces those that are tracked.
func (b *batcher) openAll(opened []*pendingPost, open func([]*pendingPost) []error) {
	if len(opened) == 0 {
		return
	}
	errs := open(opened)
	failpoint.Here("afterPending")
	for i, s := range opened {
		switch err := errOf(errs, i); {
		case err == nil:
			b.produce(s)
		case errors.Is(err, trade.ErrKeyTaken): // since withFreeKeys looked
			b.replyKeyed(s, keyInProgress, answer{code: RequestInProgress})
		case errors.Is(err, trade.ErrNotOpened):
			b.reply(s, answer{code: RequestStoreUnavailable})
		default:
			// The entry may exist or still appear. Sending it again could undo a terminal state later (rule C3).
			b.m.unknown[stageOpen].Inc()
			b.reply(s, answer{code: DeliveryUnknown})
		}
	}
}

// errOf returns the error of submission i. A result of the wrong length says nothing about those that it lacks.
func errOf(errs []error, i int) error {
	switch {
	case errs == nil:
		return nil
	case i < len(errs):
		return errs[i]
	}
	return errors.New("the request store gave no result")
}

// lookUp returns the highest stored version of the batch's trades; it is empty when the store can't tell in time. Only
// an early answer is lost by that: the worker judges every version again (rule C9).
func (b *batcher) lookUp(batch []*pendingPost) map[string]int32 {
	ids := tradeIDs(batch)
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.LookupTimeout)
	defer cancel()
	start := time.Now()
	maxima, err := b.trades.MaxVersions(ctx, ids)
	b.traceStage(batch, spanLookUp, start, func(int) error { return err })
	telemetry.Observe(b.m.lookUpStage, time.Since(start).Seconds(), sampledOf(batch))
	if err != nil {
		b.m.failedOpen.Inc()
		b.log.Warn().Err(err).Int("trades", len(ids)).Msg("cannot look up versions: accepting unchecked")
		return nil
	}
	return maxima
}

// refuseStale answers submissions below the highest stored version, and says who stored that. The version is certain; who
// stored it is read for them alone, because it costs the row and not just the index. Where that fails it is left out.
func (b *batcher) refuseStale(stale []*pendingPost, maxima map[string]int32) {
	if len(stale) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.LookupTimeout)
	defer cancel()
	newest, err := b.trades.Newest(ctx, tradeIDs(stale))
	if err != nil {
		b.log.Warn().Err(err).Int("trades", len(stale)).Msg("cannot look up who stored a version")
	}
	for _, s := range stale {
		high, stored := maxima[s.req.Trade.TradeID], newest[s.req.Trade.TradeID]
		if stored.Version > high { // stored since
			high = stored.Version
		}
		b.reply(s, answer{code: trade.StaleVersion, detail: trade.StaleDetail(s.req.Trade.Version, high), stored: stored})
	}
}

// tradeIDs returns the trades of the batch, each once.
func tradeIDs(batch []*pendingPost) []string {
	ids := make([]string, len(batch))
	for i, s := range batch {
		ids[i] = s.req.Trade.TradeID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// open sends PENDING for the submissions, once.
func (b *batcher) open(batch []*pendingPost) []error {
	requests := make([]*trade.Request, len(batch))
	for i, s := range batch {
		requests[i] = &s.req
	}
	return b.timedOpen(batch, func(ctx context.Context) []error { return b.requests.Open(ctx, requests) })
}

// timedOpen calls the request store within its time limit, measures the call and logs one error of it.
func (b *batcher) timedOpen(batch []*pendingPost, open func(context.Context) []error) []error {
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.OpenTimeout)
	defer cancel()
	start := time.Now()
	errs := open(ctx)
	telemetry.Observe(b.m.openStage, time.Since(start).Seconds(), sampledOf(batch))
	b.traceStage(batch, spanOpen, start, func(i int) error { return errOf(errs, i) })
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil && !errors.Is(err, trade.ErrKeyTaken) }); i >= 0 {
		b.log.Warn().Err(errs[i]).Int("requests", len(batch)).Msg("cannot open requests: this is the first error")
	}
	return errs
}

// produce hands the record to the producer, which never waits. Its context is nobody's: a record that was sent can't be
// pulled back, so cancelling it would only hide what became of it (rule C4).
func (b *batcher) produce(s *pendingPost) {
	if !s.stage.CompareAndSwap(opening, producing) {
		// The client was told "unknown" and may have sent something newer by now, which this one must not overwrite.
		b.m.unknown[stageDeadline].Inc()
		b.reply(s, answer{code: DeliveryUnknown})
		return
	}
	failpoint.Here("beforeProduce")
	if b.injectDelivery(s) {
		return
	}
	start := time.Now()
	s.under.begin()
	b.client.TryProduce(context.Background(), kafka.Encode(b.cfg.Topic, &s.req), func(_ *kgo.Record, err error) {
		defer s.under.end()
		telemetry.Observe(b.m.produceStage, time.Since(start).Seconds(), s.req.TraceParent)
		b.traceProduce(s, start, err)
		if err != nil {
			b.m.unknown[stageProduce].Inc()
			b.log.Warn().Err(err).Str("correlation_id", s.req.CorrelationID).Func(telemetry.Traced(s.req.TraceParent)).Stringer("request_id", s.req.ID).
				Str("trade_id", s.req.Trade.TradeID).Msg("cannot deliver a record: its request stays PENDING")
			b.reply(s, answer{code: DeliveryUnknown})
			return
		}
		b.m.delivered.Inc()
		b.reply(s, answer{})
	})
}

// reply answers s and frees what it held. Only the first call counts.
func (b *batcher) reply(s *pendingPost, a answer) {
	if s.replied.Swap(true) {
		return
	}
	a.of = s
	s.answer <- a
	b.mu.Lock()
	defer b.mu.Unlock()
	b.load.items--
	b.load.bytes -= s.cost
	if a.code == "" || a.code == trade.StaleVersion { // what came too late says nothing about how much comes in time
		b.rate.add(time.Now())
	}
}

// rescue answers what a panic has left behind. What was sent by then is unknown, which is what a 500 says.
func (b *batcher) rescue(batch []*pendingPost) {
	cause := recover()
	if cause == nil {
		return
	}
	b.m.panics.Inc()
	b.log.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).Int("requests", len(batch)).Msg("panic in a flush")
	for _, s := range batch {
		if s.stage.Load() != producing { // the producer answers for what it was given
			b.reply(s, answer{code: Internal})
		}
	}
}

// held returns what the batcher holds now.
func (b *batcher) held() load {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.load
	for i := range b.shares {
		l.waiting += len(b.shares[i].waiting)
	}
	return l
}

// rate measures answers in time per second, over spans of a second or more.
type rate struct {
	since     time.Time // start of the span that is being counted
	count     int
	perSecond float64 // of the span before
}

func (r *rate) add(now time.Time) {
	r.at(now)
	r.count++
}

// at returns the rate at the instant now.
func (r *rate) at(now time.Time) float64 {
	if span := now.Sub(r.since); span >= time.Second {
		r.perSecond = float64(r.count) / span.Seconds()
		r.since, r.count = now, 0
	} else if r.perSecond == 0 && span > 0 {
		return float64(r.count) // of the first second; nothing better is known yet
	}
	return r.perSecond
}
