package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// lane is one loop with a part of the partitions: a member of the consumer group of its own, and one transaction at a
// time. What it polls while a rebalance waits is dropped, never finished, so a lane that waits for the store does not
// hold up the group.
type lane struct {
	*Worker
	name   string // "lane 0", for reasons and log lines
	number int
	log    zerolog.Logger
	client *kgo.Client
	held   held
	commit chan struct{} // asks for a commit of the group offset

	mu   sync.Mutex // guards drop
	drop func()     // ends the context of the batch in hand

	records []trade.Record // of the batch in hand; kept for its memory
	most    int            // records to poll, at most: fewer while transactions run into their time limit
	refused atomic.Int64   // records in a row that the store refused
	fences  int            // fences lost in a row
}

// errDropped ends a batch that is not ours to finish, or whose fate is unknown: read the positions and go on from there.
var errDropped = errors.New("batch dropped")

// errClient marks a fault that the client does not get over by itself. It is replaced.
var errClient = errors.New("the Kafka client can't go on")

func newLane(w *Worker, number int) *lane {
	name := "lane " + strconv.Itoa(number)
	return &lane{
		Worker: w, name: name, number: number, log: w.log.With().Int("lane", number).Logger(),
		commit: make(chan struct{}, 1), most: w.cfg.MaxPollRecords,
	}
}

// run applies until ctx ends (nil) or an assumption does not hold. The client stays open for the last commit.
func (l *lane) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := l.session(ctx)
		if !errors.Is(err, errClient) {
			return unlessDone(ctx, err)
		}
		l.metrics.retries.WithLabelValues("client").Inc()
		l.health.set(l.name, err.Error())
		l.log.Warn().Err(err).Msg("joining the group again with a new client")
		leave, cancel := context.WithTimeout(ctx, l.cfg.DrainLimit)
		l.close(leave)
		cancel()
		if !wait(ctx, l.pause(attempt)) {
			return nil
		}
		l.health.clear(l.name)
	}
}

// session is one client's life: join, then poll, apply and commit until ctx ends.
func (l *lane) session(ctx context.Context) error {
	base, cancel := l.outlive(ctx)
	defer cancel()
	if err := l.open(ctx); err != nil {
		return err
	}
	committing, stop := context.WithCancel(ctx)
	var committer sync.WaitGroup
	committer.Go(func() { l.commitOffsets(committing) })
	defer committer.Wait()
	defer stop()
	for {
		// Before the poll: a rebalance that is blocked from the poll on must find something to cancel.
		hand := l.take(base)
		fetches := l.client.PollRecords(ctx, l.most)
		failpoint.Here("afterPoll") // a crash here leaves nothing: the position did not move
		batch, err := l.gather(fetches)
		if err == nil && len(batch.Records) > 0 {
			if err = l.apply(hand, batch); err == nil {
				failpoint.Here("beforeGroupCommit") // a crash here leaves a group offset that lags: nobody starts from it
				signal(l.commit)
			}
		}
		if errors.Is(err, errDropped) {
			err = l.resync(ctx, base)
		}
		l.client.AllowRebalance()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// outlive returns a context that ends the drain limit after ctx: the time that the batch in hand has when a drain begins.
func (l *lane) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if wait(base, l.cfg.DrainLimit) {
			cancel()
		}
	})
	return base, func() { stop(); cancel() }
}

// take returns the context of the batch about to be polled. It ends when a rebalance waits for the lane.
func (l *lane) take(base context.Context) context.Context {
	hand, cancel := context.WithCancel(base)
	l.mu.Lock()
	before := l.drop
	l.drop = cancel
	l.mu.Unlock()
	if before != nil {
		before()
	}
	return hand
}

// letGo is called when a rebalance waits for the lane to finish what it polled.
func (l *lane) letGo(context.Context, *kgo.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drop != nil {
		l.drop()
	}
}

// open joins the group. Where reading starts is read from the store, whatever the group has committed (rule A8).
func (l *lane) open(ctx context.Context) error {
	cfg := l.cfg.Kafka
	cfg.ClientID += "-lane-" + strconv.Itoa(l.number)
	client, err := kafka.NewConsumer(cfg, l.deps.Registry, l.log,
		kgo.AdjustFetchOffsetsFn(func(session context.Context, assigned map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return l.startAt(ctx, session, assigned)
		}),
		kgo.OnPartitionsCallbackBlocked(l.letGo),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { l.health.clear(l.name + " group") }),
		kgo.OnPartitionsRevoked(l.lose),
		kgo.OnPartitionsLost(l.lose),
	)
	if err != nil {
		return err
	}
	l.client = client
	return nil
}

// lose is called when partitions were taken away; the lane has nothing in hand then.
func (l *lane) lose(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	l.held.drop(lost[l.cfg.Kafka.Topic])
}

// startAt answers where to start reading the partitions assigned. It waits for the store as long as the assignment
// lasts. The leader epoch goes along, so that the client sees when the log was cut below the position (T5).
func (l *lane) startAt(ctx, session context.Context, assigned map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	session, cancel := context.WithCancel(session)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	positions, err := l.awaitPositions(session)
	if err != nil {
		return nil, err // comes back from the next poll as the error of the group session
	}
	for partition := range assigned[l.cfg.Kafka.Topic] {
		if int(partition) >= len(positions) {
			return nil, trade.Classed(trade.Broken, "%w: topic %s expected with %d partitions, seen: partition %d",
				kafka.ErrTopology, l.cfg.Kafka.Topic, len(positions), partition)
		}
		p := positions[partition]
		l.held.take(p)
		assigned[l.cfg.Kafka.Topic][partition] = kgo.NewOffset().At(p.NextOffset).WithEpoch(p.LeaderEpoch)
	}
	return assigned, nil
}

func (l *lane) awaitPositions(ctx context.Context) (positions []trade.Position, err error) {
	err = l.retry(ctx, "read the positions ("+l.name+")", func(ctx context.Context) error {
		positions, err = l.positions(ctx)
		return err
	})
	return positions, err
}

// resync reads the positions of the held partitions again and seeks to them: what was polled from there on was dropped,
// or another worker has moved on. Rebalances come first each time, and none runs while the client seeks.
func (l *lane) resync(ctx, base context.Context) error {
	l.client.AllowRebalance()
	if l.fences > 0 && !wait(ctx, l.pause(l.fences-1)) {
		return nil // if we lost a partition, the group tells us meanwhile
	}
	past, cancel := context.WithCancel(ctx)
	cancel()
	for ctx.Err() == nil {
		l.client.AllowRebalance()
		hand := l.take(base)
		l.client.PollRecords(past, 1) // takes no record: waits for the rebalance under way, then blocks the next
		positions, err := l.awaitPositions(hand)
		if stops(err) {
			return err
		}
		if err != nil {
			continue // another rebalance waits
		}
		seek := map[int32]kgo.EpochOffset{}
		for _, partition := range l.held.partitions() {
			p := positions[partition]
			l.held.take(p)
			seek[partition] = kgo.EpochOffset{Epoch: p.LeaderEpoch, Offset: p.NextOffset}
		}
		l.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{l.cfg.Kafka.Topic: seek})
		return nil
	}
	return nil
}

// gather decodes what was polled into one batch. Errors: errDropped for records that don't continue the position,
// errClient, or a broken assumption.
func (l *lane) gather(fetches kgo.Fetches) (*trade.Batch, error) {
	var parts []kgo.FetchTopicPartition
	var first error
	fetches.EachTopic(func(t kgo.FetchTopic) {
		if len(t.Partitions) > 0 && t.TopicID != [16]byte{} && first == nil {
			first = l.checkID(t.TopicID)
		}
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if err := l.judge(p.Topic, &p.FetchPartition); err != nil && (first == nil || stops(err)) {
			first = err
		}
		if len(p.Records) > 0 {
			parts = append(parts, p)
		}
	})
	batch := &trade.Batch{TopicID: l.topic.TopicID, Generation: l.topic.Generation}
	if first != nil {
		return batch, first
	}
	slices.SortFunc(parts, func(a, b kgo.FetchTopicPartition) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Records[0].Offset, b.Records[0].Offset))
	})
	clear(l.records) // lets go of the fetches that its values lie in
	batch.Records = l.records[:0]
	for _, p := range parts {
		if err := l.add(batch, &p.FetchPartition); err != nil {
			return batch, err
		}
	}
	l.records = batch.Records
	return batch, nil
}

// add decodes the records of one partition into the batch.
func (l *lane) add(batch *trade.Batch, p *kgo.FetchPartition) error {
	from, ok := l.held.next(p.Partition)
	if !ok {
		return trade.Classed(trade.Broken, "records of held partitions expected, seen: records of partition %d", p.Partition)
	}
	span := len(batch.Spans) - 1
	if span < 0 || batch.Spans[span].Partition != p.Partition {
		batch.Spans = append(batch.Spans, trade.Span{Partition: p.Partition, From: from, Next: from})
		span++
	}
	start := len(batch.Records)
	for _, rec := range p.Records {
		if rec.Offset < batch.Spans[span].Next {
			return errDropped // not from where we are; never skipped, because an offset below could be a reused one
		}
		batch.Records = append(batch.Records, l.decode(rec))
		batch.Spans[span].Next = rec.Offset + 1
		batch.Spans[span].LeaderEpoch = rec.LeaderEpoch
	}
	l.held.polled(p.Partition, p.HighWatermark, acceptedAt(&batch.Records[start], p.Records[0]),
		acceptedAt(&batch.Records[len(batch.Records)-1], p.Records[len(p.Records)-1]))
	return nil
}

// decode is kafka.Decode and the one rule that needs the topic: a record outside the partition of its trade would have
// two writers, and its order among the others would be lost.
func (l *lane) decode(rec *kgo.Record) trade.Record {
	r := kafka.Decode(rec)
	if r.Fault == "" {
		if home := kafka.Partition(r.Trade.TradeID, l.cfg.Partitions); home != rec.Partition {
			r.Fault = fmt.Sprintf("the record lies in partition %d, its trade belongs to partition %d", rec.Partition, home)
		}
	}
	return r
}

// acceptedAt is when the request was taken; for a record without a readable time, when it was written to the log.
func acceptedAt(r *trade.Record, rec *kgo.Record) time.Time {
	if r.AcceptedAt.IsZero() {
		return rec.Timestamp
	}
	return r.AcceptedAt
}

// judge decides what an error of a fetch means; nil when there is nothing to do about it.
func (l *lane) judge(topic string, p *kgo.FetchPartition) error {
	err := p.Err
	var session *kgo.ErrGroupSession
	var cut *kgo.ErrDataLoss
	var inflated *kgo.ErrDecompressTooLarge
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
		return nil // the end of a poll
	case stops(err):
		return err // from startAt
	case errors.As(err, &session):
		l.metrics.retries.WithLabelValues("group").Inc()
		l.health.set(l.name+" group", err.Error())
		l.log.Warn().Err(err).Msg("cannot stay in the consumer group: joining again")
		return nil // the client does that by itself
	case errors.Is(err, kerr.OffsetOutOfRange):
		next, _ := l.held.next(p.Partition)
		return trade.Classed(trade.Broken, "%w: position %d of partition %d expected within the log, seen: outside (%w); records were lost by retention, or the log was cut",
			kafka.ErrTopology, next, p.Partition, err)
	case errors.As(err, &cut), errors.As(err, &inflated), errors.Is(err, kerr.UnknownTopicID):
		return trade.Classed(trade.Broken, "%w: cannot read on in partition %d of topic %s: %w", kafka.ErrTopology, p.Partition, topic, err)
	}
	return fmt.Errorf("%w: partition %d of topic %s: %w", errClient, p.Partition, topic, err)
}

// commitOffsets commits positions to the group when asked, as a hint of the lag for tools: nobody starts from them.
func (l *lane) commitOffsets(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.commit:
		}
		l.commitOnce(ctx)
		if !wait(ctx, l.cfg.CommitInterval) {
			return
		}
	}
}

func (l *lane) commitOnce(ctx context.Context) {
	offsets := map[int32]kgo.EpochOffset{}
	for partition, p := range l.held.places() {
		offsets[partition] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.next}
	}
	if len(offsets) == 0 {
		return
	}
	if err := commitSync(ctx, l.client, l.cfg.Kafka.Topic, offsets); err != nil && ctx.Err() == nil {
		l.metrics.commitErrors.Inc()
		l.log.Debug().Err(err).Msg("cannot commit the group offset, a hint only")
	}
}

// close commits the positions, leaves the group and closes the client.
func (l *lane) close(ctx context.Context) {
	if l.client == nil {
		return
	}
	l.client.AllowRebalance()
	l.commitOnce(ctx)
	if err := l.client.LeaveGroupContext(ctx); err != nil {
		l.log.Warn().Err(err).Msg("cannot leave the consumer group: the others take over after the session timeout")
	}
	l.client.Close()
	l.client = nil
}

// signal wakes the reader of a channel of length one, which may be awake already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
