package server

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/failpoint"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// maxAckWait is how long a flush waits for its acknowledgements before it takes the next batch.
const maxAckWait = 50 * time.Millisecond

// flusher takes posts from the queue to the log: version look-up, PENDING, produce, reply. There is no timer. A flush
// takes what has gathered during the flush before it, so batches grow with the load and an idle service answers at
// once. A flush ends when its records are acknowledged: slower brokers get larger batches. maxAckWait bounds that, or a
// partition without a leader would hold up all others of its share (C2).
type flusher struct {
	cfg      *Config
	queue    *queue
	requests RequestStore
	keys     KeyedStore
	versions VersionLookUp
	client   *kgo.Client
	log      zerolog.Logger
	observe  *observer
	ackWait  time.Duration // maxAckWait, but in tests
	running  sync.WaitGroup
}

func newFlusher(cfg *Config, deps *Deps, queue *queue, observe *observer) *flusher {
	return &flusher{
		cfg: cfg, queue: queue, requests: deps.Requests, keys: deps.Keys, versions: deps.LookUp,
		client:  deps.Kafka,
		log:     telemetry.Sampled(deps.Log), // an outage fails every batch
		observe: observe, ackWait: maxAckWait,
	}
}

// run starts the flushes, unless close came first. They end after it.
func (f *flusher) run() {
	f.queue.ifOpen(func() {
		for share := range f.cfg.Flushes {
			f.running.Go(func() {
				for batch := f.queue.next(share); batch != nil; batch = f.queue.next(share) {
					f.flush(batch)
				}
			})
		}
	})
}

// close closes the queue and waits until the producer has what was admitted.
func (f *flusher) close(ctx context.Context) error {
	f.queue.close()
	done := make(chan struct{})
	go func() { f.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush takes a batch to the producer. Posts under keys go last, so that keyless ones do not wait for their extra read.
func (f *flusher) flush(batch []*pendingPost) {
	defer f.rescue(batch)
	f.observe.dequeued(batch)
	delivery := newDelivery()
	for _, post := range batch {
		post.delivery = delivery
	}
	plain, keyed := splitByKey(batch)
	f.deliver(plain, f.open)
	f.deliver(f.withFreeKeys(keyed), f.openKeyed)
	delivery.wait(f.ackWait)
}

// deliver looks up versions, opens and produces. A crash before open returns leaves PENDING entries, or nothing. One
// after it leaves PENDING entries without a record, or with a record that the worker decides. No client has a 202
// for these.
func (f *flusher) deliver(batch []*pendingPost, open func([]*pendingPost) []error) {
	if len(batch) == 0 {
		return
	}
	maxima := f.lookUp(batch)
	fresh := make([]*pendingPost, 0, len(batch))
	var stale []*pendingPost
	for _, post := range batch {
		switch {
		case f.queue.verified() != nil: // a check has failed since the post was admitted
			f.reply(post, answer{code: NotReady})
		case post.req.Trade.Version < maxima[post.req.Trade.TradeID]:
			stale = append(stale, post)
		case post.stage.CompareAndSwap(queued, opening):
			fresh = append(fresh, post)
		default: // its deadline passed in the queue
			f.reply(post, answer{code: DeadlineExceeded})
		}
	}
	f.openAll(fresh, open)
	f.refuseStale(stale, maxima) // last: its look-up would delay the others
}

// openAll sends PENDING for the posts and produces those that have an entry.
func (f *flusher) openAll(batch []*pendingPost, open func([]*pendingPost) []error) {
	if len(batch) == 0 {
		return
	}
	errs := open(batch)
	failpoint.Here("afterPending")
	for i, post := range batch {
		switch err := errAt(errs, i); {
		case err == nil:
			f.produce(post)
		case errors.Is(err, trade.ErrKeyTaken): // since withFreeKeys looked
			f.replyKeyed(post, keyInProgress, answer{code: RequestInProgress})
		case errors.Is(err, trade.ErrNotOpened):
			f.reply(post, answer{code: RequestStoreUnavailable})
		default:
			// The entry may exist or still appear. Sending it again could undo a terminal state later (rule C3).
			f.observe.unknown(stageOpen)
			f.reply(post, answer{code: DeliveryUnknown})
		}
	}
}

// errAt returns error i of a store's result. A result of the wrong length says nothing about the posts that it lacks.
func errAt(errs []error, i int) error {
	switch {
	case errs == nil:
		return nil
	case i < len(errs):
		return errs[i]
	}
	return errors.New("the request store gave no result")
}

// lookUp returns the highest stored version of the batch's trades, nothing if the store can't tell in time. Then only
// an early refusal is lost: the worker judges every version again (rule C9).
func (f *flusher) lookUp(batch []*pendingPost) map[string]int32 {
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.LookupTimeout)
	defer cancel()
	start := time.Now()
	maxima, err := f.versions.MaxVersions(ctx, tradeIDs(batch))
	f.observe.lookedUp(batch, start, err)
	if err != nil {
		f.log.Warn().Err(err).Int("requests", len(batch)).Msg("cannot look up versions: accepting unchecked")
		return nil
	}
	return maxima
}

// refuseStale answers posts below the highest stored version, and says who stored that. The refusal is certain. Who
// stored it is read for stale posts alone, because it costs the row and not just the index; on an error it is left out.
func (f *flusher) refuseStale(stale []*pendingPost, maxima map[string]int32) {
	if len(stale) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.LookupTimeout)
	defer cancel()
	newest, err := f.versions.Newest(ctx, tradeIDs(stale))
	if err != nil {
		f.log.Warn().Err(err).Int("requests", len(stale)).Msg("cannot look up who stored a version")
	}
	for _, post := range stale {
		version, stored := post.req.Trade.Version, newest[post.req.Trade.TradeID]
		highest := max(stored.Version, maxima[post.req.Trade.TradeID]) // it may have grown since
		f.reply(post, answer{code: trade.StaleVersion, detail: trade.StaleDetail(version, highest), stored: stored})
	}
}

// tradeIDs returns the trades of the batch, each once.
func tradeIDs(batch []*pendingPost) []string {
	ids := make([]string, len(batch))
	for i, post := range batch {
		ids[i] = post.req.Trade.TradeID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// open sends PENDING for the posts, once.
func (f *flusher) open(batch []*pendingPost) []error {
	requests := make([]*trade.Request, len(batch))
	for i, post := range batch {
		requests[i] = &post.req
	}
	return f.limitedOpen(batch, func(ctx context.Context) []error { return f.requests.Open(ctx, requests) })
}

// limitedOpen calls the request store within its time limit.
func (f *flusher) limitedOpen(batch []*pendingPost, open func(context.Context) []error) []error {
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.OpenTimeout)
	defer cancel()
	start := time.Now()
	errs := open(ctx)
	f.observe.opened(batch, start, errs)
	failed := func(err error) bool { return err != nil && !errors.Is(err, trade.ErrKeyTaken) }
	if i := slices.IndexFunc(errs, failed); i >= 0 {
		f.log.Warn().Err(errs[i]).Int("requests", len(batch)).Msg("cannot open requests: this is the first error")
	}
	return errs
}

// produce hands the record to the producer, which never waits. It uses context.Background: a sent record cannot be
// recalled, and cancelling would only hide what became of it (rule C4).
func (f *flusher) produce(post *pendingPost) {
	if !post.stage.CompareAndSwap(opening, producing) {
		// The client was told "unknown" and may have sent something newer, which this record must not overwrite.
		f.observe.unknown(stageDeadline)
		f.reply(post, answer{code: DeliveryUnknown})
		return
	}
	failpoint.Here("beforeProduce")
	if f.injectDelivery(post) {
		return
	}
	start := time.Now()
	post.delivery.begin()
	f.client.TryProduce(context.Background(), kafka.Encode(f.cfg.Topic, &post.req), func(_ *kgo.Record, err error) {
		defer post.delivery.end()
		f.observe.produced(post, start, err)
		if err != nil {
			f.log.Warn().Err(err).Str("correlation_id", post.req.CorrelationID).
				Func(telemetry.Traced(post.req.TraceParent)).Stringer("request_id", post.req.ID).
				Str("trade_id", post.req.Trade.TradeID).Msg("cannot deliver a record: its request stays PENDING")
			f.reply(post, answer{code: DeliveryUnknown})
			return
		}
		f.reply(post, answer{})
	})
}

// reply sends the answer of a post and frees what it held. Only the first call counts.
func (f *flusher) reply(post *pendingPost, a answer) {
	if post.replied.Swap(true) {
		return
	}
	a.of = post
	post.answer <- a
	f.queue.release(post, a.code == "" || a.code == trade.StaleVersion)
}

// rescue answers the posts of a flush that panicked (C7). What was sent by then is unknown, which is what a 500 says.
func (f *flusher) rescue(batch []*pendingPost) {
	cause := recover()
	if cause == nil {
		return
	}
	f.observe.panicked()
	f.log.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).Int("requests", len(batch)).
		Msg("panic in a flush")
	for _, post := range batch {
		if post.stage.Load() != producing { // the delivery callback answers for those
			f.reply(post, answer{code: Internal})
		}
	}
}

// delivery counts the records of one flush that the brokers have not acknowledged.
type delivery struct {
	left atomic.Int32  // and one for the flush, until it has handed over its last record
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

// wait ends the part of the flush. It returns when every record is acknowledged or has failed, or after limit.
func (d *delivery) wait(limit time.Duration) {
	d.end()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-d.done:
	case <-timeout.C:
	}
}
