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
				for f.flushNext(share) {
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

// flushNext waits for posts of a share and deals with them. It returns false when none will come any more.
func (f *flusher) flushNext(share int) bool {
	batch, refused := f.queue.next(share)
	for _, post := range refused {
		f.observe.m.shed[shedPartition].Inc()
		f.reply(post, answer{code: LogUnavailable})
	}
	if len(batch) > 0 {
		f.flush(batch)
	}
	return len(batch)+len(refused) > 0
}

// flush takes a batch to the producer. Posts under keys go last, so that keyless ones do not wait for their extra read.
func (f *flusher) flush(batch []*pendingPost) {
	defer f.rescue(batch)
	answers := newAnswers(len(batch))
	for _, post := range batch {
		post.answers = answers
	}
	f.observe.dequeued(batch)
	plain, keyed := splitByKey(batch)
	f.deliver(plain, f.open)
	f.deliver(f.withFreeKeys(keyed), f.openKeyed)
	answers.wait(f.ackWait)
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
	record := kafka.Encode(f.cfg.Topic, &post.req)
	f.queue.handOver(post)
	f.client.TryProduce(context.Background(), record, func(_ *kgo.Record, err error) { f.produced(post, start, err) })
	post.produced = true
}

// produced is the delivery callback. It runs in a goroutine of the Kafka client, where a panic would end the process.
func (f *flusher) produced(post *pendingPost, start time.Time, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			f.panicked(cause, post)
		}
	}()
	f.observe.produced(post, start, err)
	if err == nil {
		f.reply(post, answer{})
		return
	}
	f.log.Warn().Err(err).Str("correlation_id", post.req.CorrelationID).
		Func(telemetry.Traced(post.req.TraceParent)).Stringer("request_id", post.req.ID).
		Str("trade_id", post.req.Trade.TradeID).Msg("cannot deliver a record: its request stays PENDING")
	f.reply(post, answer{code: DeliveryUnknown})
}

// reply sends the answer of a post and frees what it held. Only the first call counts.
func (f *flusher) reply(post *pendingPost, a answer) {
	if post.replied.Swap(true) {
		return
	}
	f.queue.release(post, a.code)
	a.of = post
	post.answer <- a
	if post.answers != nil { // nil: no flush took it
		post.answers.end()
	}
}

// rescue answers the posts of a flush that panicked, but for those that the delivery callback answers.
func (f *flusher) rescue(batch []*pendingPost) {
	cause := recover()
	if cause == nil {
		return
	}
	produced := func(post *pendingPost) bool { return post.produced }
	f.panicked(cause, slices.DeleteFunc(batch, produced)...)
}

// panicked counts a panic and answers the posts that it left without an answer (C7). Whether they were sent is unknown,
// which is what a 500 says.
func (f *flusher) panicked(cause any, posts ...*pendingPost) {
	f.observe.panicked()
	f.log.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).Int("requests", len(posts)).
		Msg("panic in a flush")
	for _, post := range posts {
		f.reply(post, answer{code: Internal})
	}
}

// answers counts the posts of one flush that have no answer yet. Each gets one in every case, so the count ends.
type answers struct {
	left atomic.Int32
	done chan struct{} // closed when nothing is left
}

func newAnswers(posts int) *answers {
	a := &answers{done: make(chan struct{})}
	a.left.Store(int32(posts))
	return a
}

func (a *answers) end() {
	if a.left.Add(-1) == 0 {
		close(a.done)
	}
}

// wait returns when every post has its answer: its record is acknowledged or has failed. Or after limit.
func (a *answers) wait(limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-a.done:
	case <-timeout.C:
	}
}
