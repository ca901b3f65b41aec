package worker

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/internal/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// lane is one loop that applies some of the partitions: it is a member of the consumer group, and has one transaction
// at a time. When a rebalance waits for the lane, it drops the batch in hand and does not finish it, so that a lane
// that waits for the store does not hold up the group (rule A9).
type lane struct {
	cfg      Config
	number   int
	name     string // "lane 0", for reasons and log lines
	log      zerolog.Logger
	registry prometheus.Registerer
	store    TradeStore
	topic    *topicReader
	gate     *applyGate
	health   *health
	retries  *retrier
	observe  *laneObserver
	onCommit func() // called after each transaction that stored records

	client         *kgo.Client
	closeClient    context.CancelFunc // makes the client give up whatever it waits for
	assigned       assignment
	commitRequests chan struct{} // asks for a commit of the group offset

	mu          sync.Mutex         // guards cancelBatch
	cancelBatch context.CancelFunc // ends the context of the batch in hand

	records      []trade.Record // of the batch in hand; kept to use its memory again
	polledAt     time.Time      // when the batch in hand was
	pollLimit    int            // records to poll: fewer while transactions reach their time limit
	refusedInRow atomic.Int64   // records that the store refused since the last good one
	fences       int            // batches in a row that another worker fenced off
}

// errDropped ends a batch that is not ours to finish, or that may be stored or not: the lane reads the positions and
// goes on from there.
var errDropped = errors.New("batch dropped")

// errClient marks an error that the client does not recover from by itself. The lane replaces the client.
var errClient = errors.New("the Kafka client can't go on")

func newLane(w *Worker, number int) *lane {
	log := w.log.With().Int("lane", number).Logger()
	return &lane{
		cfg: w.cfg, number: number, name: "lane " + strconv.Itoa(number), log: log,
		registry: w.deps.Registry, store: w.deps.Store, topic: w.topic, gate: w.gate, health: &w.health, retries: w.retries,
		observe:  &laneObserver{observer: w.observe, lane: number, log: log},
		onCommit: w.onCommit, commitRequests: make(chan struct{}, 1), pollLimit: w.cfg.MaxPollRecords,
	}
}

// run applies until ctx ends (nil) or an assumption does not hold. The client stays open for the last commit.
func (l *lane) run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := l.session(ctx)
		if !errors.Is(err, errClient) {
			return unlessDone(ctx, err)
		}
		l.observe.metrics.retries.WithLabelValues("client").Inc()
		l.health.set(l.name, err.Error())
		l.log.Warn().Err(err).Msg("joining the group again with a new client")
		limited, cancel := context.WithTimeout(ctx, l.cfg.DrainLimit)
		l.leave(limited)
		cancel()
		if !wait(ctx, l.retries.pause(failures)) {
			return nil
		}
		l.health.clear(l.name)
	}
}

// session is the life of one client: join the group, then poll, apply and commit until ctx ends.
func (l *lane) session(ctx context.Context) error {
	drained, cancel := l.drainContext(ctx)
	defer cancel()
	if err := l.join(ctx); err != nil {
		return err
	}
	committing, stop := context.WithCancel(ctx)
	var committer sync.WaitGroup
	committer.Go(func() { l.commitOffsets(committing) })
	defer committer.Wait()
	defer stop()
	for {
		l.waitForRecords(ctx)
		// Before the poll: a rebalance that is blocked from the poll on must find a batch to cancel.
		batchCtx := l.batchContext(drained)
		err := l.applyNext(ctx, batchCtx)
		if errors.Is(err, errDropped) {
			err = l.seekToPositions(ctx, drained)
		}
		l.client.AllowRebalance()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// applyNext polls until ctx ends, and applies what comes until batchCtx ends.
func (l *lane) applyNext(ctx, batchCtx context.Context) error {
	batch, err := l.collect(l.client.PollRecords(ctx, l.pollLimit))
	if err != nil || len(batch.Records) == 0 {
		return err
	}
	failpoint.Here("afterPoll") // after a crash here the batch is polled again, because the position has not moved
	if err := l.apply(batchCtx, batch); err != nil {
		return err
	}
	failpoint.Here("beforeGroupCommit") // a crash here leaves a group offset that lags: nobody starts from it
	signal(l.commitRequests)
	return nil
}

// fullBatch is how many records are worth a transaction at once.
const fullBatch = 1000

// waitForRecords waits until the last transaction began an apply pause ago, unless a full batch waits already. Each
// transaction syncs the WAL, and the commits of the servers queue behind it, so few large ones let more trades in than
// many small ones. A record that finds the lane idle does not wait, nor does a backlog. No batch is in hand, so
// rebalances go on.
func (l *lane) waitForRecords(ctx context.Context) {
	pause := time.Until(l.polledAt.Add(l.cfg.ApplyPause))
	if pause > 0 && l.client.BufferedFetchRecords() < int64(min(fullBatch, l.pollLimit)) {
		wait(ctx, pause)
	}
}

// drainContext returns a context that ends the drain limit after ctx: the batch in hand has that long after a drain
// began.
func (l *lane) drainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	drained, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if wait(drained, l.cfg.DrainLimit) {
			cancel()
		}
	})
	return drained, func() { stop(); cancel() }
}

// batchContext returns the context of the next batch, and ends that of the last one. cancelOnRebalance ends it.
func (l *lane) batchContext(parent context.Context) context.Context {
	batchCtx, cancel := context.WithCancel(parent)
	l.mu.Lock()
	cancelLast := l.cancelBatch
	l.cancelBatch = cancel
	l.mu.Unlock()
	if cancelLast != nil {
		cancelLast()
	}
	return batchCtx
}

// cancelOnRebalance is called when a rebalance waits for the lane to finish what it polled.
func (l *lane) cancelOnRebalance(context.Context, *kgo.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancelBatch != nil {
		l.cancelBatch()
	}
}

type partitionOffsets = map[string]map[int32]kgo.Offset

// join joins the group with a new client. Reading starts at the position in the store, whatever the group has committed
// (rule A8).
func (l *lane) join(ctx context.Context) error {
	cfg := l.cfg.Kafka
	cfg.ClientID += "-lane-" + strconv.Itoa(l.number)
	// The client outlives ctx, to commit and to leave.
	clientCtx, closeClient := context.WithCancel(context.WithoutCancel(ctx))
	client, err := kafka.NewConsumer(cfg, l.registry, l.log,
		kgo.WithContext(clientCtx),
		kgo.WithHooks(decoder{l.cfg.Partitions}),
		kgo.AdjustFetchOffsetsFn(func(session context.Context, assigned partitionOffsets) (partitionOffsets, error) {
			return l.startOffsets(ctx, session, assigned)
		}),
		kgo.OnPartitionsCallbackBlocked(l.cancelOnRebalance),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) {
			l.health.clear(l.name + " group")
		}),
		kgo.OnPartitionsRevoked(l.dropPartitions),
		kgo.OnPartitionsLost(l.dropPartitions),
	)
	if err != nil {
		closeClient()
		return err
	}
	l.client, l.closeClient = client, closeClient
	return nil
}

// dropPartitions is called when partitions were taken away. The lane has no batch in hand then.
func (l *lane) dropPartitions(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	l.assigned.drop(lost[l.topic.name])
}

// startOffsets sets where to start reading the partitions assigned. It waits for the store as long as the assignment
// lasts. The leader epoch goes along, so that the client sees when the log was cut below the position (rule T5).
func (l *lane) startOffsets(ctx, session context.Context, assigned partitionOffsets) (partitionOffsets, error) {
	session, cancel := context.WithCancel(session)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	positions, err := l.awaitPositions(session)
	if err != nil {
		return nil, err // the next poll returns it as the error of the group session
	}
	for partition := range assigned[l.topic.name] {
		if int(partition) >= len(positions) {
			return nil, trade.Classed(trade.Broken, "%w: topic %s expected with %d partitions, seen: partition %d",
				checks.ErrWrong, l.topic.name, len(positions), partition)
		}
		p := positions[partition]
		l.assigned.add(p)
		assigned[l.topic.name][partition] = kgo.NewOffset().At(p.NextOffset).WithEpoch(p.LeaderEpoch)
	}
	return assigned, nil
}

// awaitPositions reads the positions, and waits for the store as long as ctx lasts.
func (l *lane) awaitPositions(ctx context.Context) (positions []trade.Position, err error) {
	err = l.retries.do(ctx, "read the positions ("+l.name+")", func(ctx context.Context) error {
		positions, err = l.topic.positions(ctx)
		return err
	})
	return positions, err
}

// seekToPositions reads the positions of the held partitions again and seeks to them: the batch polled from there was
// dropped, or another worker has moved on. Each try lets a rebalance go first; none runs while the client seeks.
func (l *lane) seekToPositions(ctx, drained context.Context) error {
	l.client.AllowRebalance()
	if l.fences > 0 && !wait(ctx, l.retries.pause(l.fences-1)) {
		return nil // if the lane lost a partition, the group says so meanwhile
	}
	expired, cancel := context.WithCancel(ctx)
	cancel()
	for ctx.Err() == nil {
		l.client.AllowRebalance()
		batchCtx := l.batchContext(drained)
		l.client.PollRecords(expired, 1) // takes no record: waits for the rebalance under way, then blocks the next
		positions, err := l.awaitPositions(batchCtx)
		if checks.IsFatal(err) {
			return err
		}
		if err != nil {
			continue // another rebalance waits
		}
		seek := map[int32]kgo.EpochOffset{}
		for _, partition := range l.assigned.partitions() {
			p := positions[partition]
			l.assigned.add(p)
			seek[partition] = kgo.EpochOffset{Epoch: p.LeaderEpoch, Offset: p.NextOffset}
		}
		l.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{l.topic.name: seek})
		return nil
	}
	return nil
}
