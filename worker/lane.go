package worker

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/checks"
	"tradestore/internal/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// lane is one loop with a part of the partitions: a member of the consumer group of its own, and one transaction at a
// time. What it polls while a rebalance waits is dropped, never finished, so a lane that waits for the store does not
// hold up the group.
type lane struct {
	*Worker
	name     string // "lane 0", for reasons and log lines
	number   int
	log      zerolog.Logger
	client   *kgo.Client
	kill     context.CancelFunc // ends the client, whatever it waits for
	assigned assignment
	commit   chan struct{} // asks for a commit of the group offset

	mu   sync.Mutex // guards drop
	drop func()     // ends the context of the batch in hand

	records []trade.Record // of the batch in hand; kept for its memory
	most    int            // records to poll, at most: fewer while transactions run into their time limit
	refused atomic.Int64   // records in a row that the store refused
	fences  int            // fences lost in a row

	polledAt    time.Time         // when the batch in hand was
	transaction trace.SpanContext // of the last try to apply records that are traced
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
		l.letGather(ctx)
		// Before the poll: a rebalance that is blocked from the poll on must find something to cancel.
		hand := l.take(base)
		fetches := l.client.PollRecords(ctx, l.most)
		batch, err := l.gather(fetches)
		if err == nil && len(batch.Records) > 0 {
			failpoint.Here("afterPoll") // a crash here leaves nothing: the position did not move
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

// enough is how many records are worth a transaction at once.
const enough = 1000

// letGather waits until the last transaction began an apply pause ago, unless enough records wait already. Each transaction
// syncs the WAL, and the servers' own commits stand in line for that: few large ones let more trades in than many small ones.
// A trade that finds the lane idle is not held up, nor is a backlog. No record is in hand, so rebalances go on meanwhile.
func (l *lane) letGather(ctx context.Context) {
	pause := time.Until(l.polledAt.Add(l.cfg.ApplyPause))
	if pause > 0 && l.client.BufferedFetchRecords() < int64(min(enough, l.most)) {
		wait(ctx, pause)
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
	life, kill := context.WithCancel(context.WithoutCancel(ctx)) // the client outlives ctx, to commit and to leave
	client, err := kafka.NewConsumer(cfg, l.deps.Registry, l.log,
		kgo.WithContext(life),
		kgo.WithHooks(decoder{l.cfg.Partitions}),
		kgo.AdjustFetchOffsetsFn(func(session context.Context, assigned map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return l.startAt(ctx, session, assigned)
		}),
		kgo.OnPartitionsCallbackBlocked(l.letGo),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { l.health.clear(l.name + " group") }),
		kgo.OnPartitionsRevoked(l.lose),
		kgo.OnPartitionsLost(l.lose),
	)
	if err != nil {
		kill()
		return err
	}
	l.client, l.kill = client, kill
	return nil
}

// lose is called when partitions were taken away; the lane has nothing in hand then.
func (l *lane) lose(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	l.assigned.drop(lost[l.cfg.Kafka.Topic])
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
				checks.ErrWrong, l.cfg.Kafka.Topic, len(positions), partition)
		}
		p := positions[partition]
		l.assigned.add(p)
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
		if isFatal(err) {
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
		l.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{l.cfg.Kafka.Topic: seek})
		return nil
	}
	return nil
}

// signal wakes the reader of a channel of length one, which may be awake already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
