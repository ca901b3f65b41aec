package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// LogCheck is what the log has to be (rules T1 to T5 and K5).
type LogCheck struct {
	Topic      string
	Partitions int // as configured

	// Production demands several replicas of each record, and a retention. Without it their rows are skipped: an embedded
	// broker has neither.
	Production bool

	// OutcomeRetention is how long outcomes are kept. The topic must forget a record ReplayWindow earlier, or a late
	// duplicate would find no outcome (rule K5). 0: this role does not know it, and the row is skipped.
	OutcomeRetention time.Duration

	// Positions reads how far each partition of the newest generation has been applied, ascending by partition. An error
	// of class trade.Broken says that there are none, or that they are of another topic; any other that they can't be
	// read now.
	Positions func(context.Context) ([]trade.Position, error)
}

// ReplayWindow is how long before its outcome is forgotten a record must be gone from the log (rule K5).
const ReplayWindow = 24 * time.Hour

const (
	fewestReplicas = 3
	fewestInSync   = 2
	absentTries    = 4
	absentPause    = 250 * time.Millisecond
)

// Checks compares the log with what it has to be. The list has the same rows each time.
func (t LogCheck) Checks(ctx context.Context, client *kgo.Client) []checks.Check {
	seen := t.observe(ctx, client)
	list := t.identity(&seen)
	list = append(list, t.safety(&seen)...)
	list = append(list, t.settings(&seen)...)
	return append(list, t.position(&seen)...)
}

// sight is what was seen of the log, part by part. What could not be read is in the error beside it.
type observed struct {
	detail    kmsg.MetadataResponseTopic
	metaErr   error
	absent    bool // there is no such topic: the parts below are not asked for
	configs   map[string]string
	configErr error

	autoCreate    string // the value that says most: "true" if any broker that answered says so
	autoCreateErr error

	starts, ends map[int32]offset
	offsetErr    error
	positions    []trade.Position
	positionErr  error
	epochs       map[int32]offset // where the log of the epoch of each position ends
	epochErr     error
}

// offset is an answer about one partition.
type offset struct {
	at    int64
	epoch int32
}

var (
	errNoTopic   = errors.New("no such topic")
	errNoSetting = errors.New("the broker does not know this setting")
)

// look reads everything. The order matters: the start of the log is read before the positions and its end after them,
// both only grow, and so a log that moves meanwhile is never mistaken for a broken one.
func (t LogCheck) observe(ctx context.Context, client *kgo.Client) observed {
	var s observed
	var brokers []int32
	s.detail, brokers, s.metaErr = metadata(ctx, client, t.Topic)
	for tries := 0; errors.Is(s.metaErr, errNoTopic) && tries < absentTries && pause(ctx); tries++ {
		s.detail, brokers, s.metaErr = metadata(ctx, client, t.Topic) // a broker may not have heard of a new topic yet
	}
	s.absent = errors.Is(s.metaErr, errNoTopic)
	s.autoCreate, s.autoCreateErr = brokerSetting(ctx, client, brokers, s.metaErr, "auto.create.topics.enable")
	if s.metaErr != nil {
		s.positions, s.positionErr = t.Positions(ctx)
		s.configErr, s.offsetErr, s.epochErr = s.metaErr, s.metaErr, s.metaErr
		return s
	}
	s.configs, s.configErr = topicSettings(ctx, client, t.Topic)
	s.starts, s.offsetErr = listOffsets(ctx, client, t.Topic, len(s.detail.Partitions), earliest)
	if s.positions, s.positionErr = t.Positions(ctx); s.positionErr != nil {
		return s
	}
	if s.offsetErr == nil {
		s.ends, s.offsetErr = listOffsets(ctx, client, t.Topic, len(s.detail.Partitions), latest)
	}
	if len(s.positions) <= len(s.detail.Partitions) {
		s.epochs, s.epochErr = epochEnds(ctx, client, t.Topic, s.positions)
	}
	return s
}

// pause waits before a topic that was not there is asked for again; false when ctx ends first.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(absentPause):
		return true
	}
}

// identity says whether this is the topic that the positions belong to (rules T1, T2).
func (t LogCheck) identity(s *observed) []checks.Check {
	const there = "there"
	exists := checks.Compare("T1", "topic "+t.Topic, there, there, true)
	switch {
	case s.absent:
		exists = checks.Compare("T1", "topic "+t.Topic, there, errNoTopic.Error(), false)
	case s.metaErr != nil:
		exists = checks.CanNotTell("T1", "topic "+t.Topic, there, s.metaErr)
	}
	want := strconv.Itoa(t.Partitions)
	id, count := "id of the topic", "partitions of the topic"
	list := []checks.Check{exists}
	switch seen := fmt.Sprintf("%x", s.detail.TopicID); {
	case s.metaErr != nil:
		list = append(list, checks.CanNotTell("T1", id, "as recorded", s.metaErr), checks.CanNotTell("T2", count, want, s.metaErr))
	case s.positionErr != nil:
		list = append(list, checks.CanNotTell("T1", id, "as recorded", s.positionErr), t.compareCount(count, len(s.detail.Partitions)))
	default:
		recorded := fmt.Sprintf("%x", s.positions[0].TopicID)
		list = append(list, checks.Compare("T1", id, recorded, seen, seen == recorded), t.compareCount(count, len(s.detail.Partitions)))
	}
	generation, newest, rows := "generation of the topic", "the newest", "partitions with a position"
	switch {
	case trade.ClassOf(s.positionErr) == trade.Broken: // of another generation, or of none
		return append(list, checks.Compare("T1", generation, newest, s.positionErr.Error(), false), checks.CanNotTell("T2", rows, want, s.positionErr))
	case s.positionErr != nil:
		return append(list, checks.CanNotTell("T1", generation, newest, s.positionErr), checks.CanNotTell("T2", rows, want, s.positionErr))
	}
	number := strconv.Itoa(int(s.positions[0].Generation))
	return append(list, checks.Compare("T1", generation, newest, number, true), t.compareCount(rows, len(s.positions)))
}

func (t LogCheck) compareCount(name string, seen int) checks.Check {
	return checks.Compare("T2", name, strconv.Itoa(t.Partitions), strconv.Itoa(seen), seen == t.Partitions)
}

// safety says whether an acknowledged record survives the loss of a broker (rule T3).
func (t LogCheck) safety(s *observed) []checks.Check {
	replicas, name := 0, "replicas of each partition"
	for i, p := range s.detail.Partitions {
		if i == 0 || len(p.Replicas) < replicas {
			replicas = len(p.Replicas)
		}
	}
	atLeast := fmt.Sprintf("at least %d", fewestReplicas)
	copies := checks.Compare("T3", name, atLeast, strconv.Itoa(replicas), replicas >= fewestReplicas)
	if s.metaErr != nil {
		copies = checks.CanNotTell("T3", name, atLeast, s.metaErr)
	}
	list := []checks.Check{
		copies,
		t.setting(s, "T3", "min.insync.replicas", fmt.Sprintf("%d or more, but fewer than replicas", fewestInSync), func(v string) bool {
			n, err := strconv.Atoi(v)
			return err == nil && n >= fewestInSync && n < replicas
		}),
		t.setting(s, "T3", uncleanElection, "false", func(v string) bool { return v == "false" }),
	}
	if !t.Production {
		for i, c := range list {
			why := c.Seen
			if c.Status != checks.Skipped {
				why += " (profile single)"
			}
			list[i] = checks.Skip(c.ID, c.Name, c.Expected, why)
		}
	}
	return list
}

// settings says whether the topic keeps what it has to keep, as long as it has to (rules T4, K5).
func (t LogCheck) settings(s *observed) []checks.Check {
	largest := func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= maxBatchBytes
	}
	auto := checks.Compare("T4", "auto.create.topics.enable", "false", s.autoCreate, s.autoCreate == "false")
	switch {
	case errors.Is(s.autoCreateErr, errNoSetting):
		auto = checks.Skip("T4", auto.Name, auto.Expected, s.autoCreateErr.Error())
	case s.autoCreateErr != nil:
		auto = checks.CanNotTell("T4", auto.Name, auto.Expected, s.autoCreateErr)
	}
	size := t.setting(s, "T4", largestBatch, fmt.Sprintf("%d or more", maxBatchBytes), largest)
	if size.Seen == closedBytes {
		size.Seen += ", which takes no record: 'tradestore migrate --new-generation' has closed the topic (rule T10)"
	}
	return []checks.Check{
		t.setting(s, "T4", "cleanup.policy", "delete", func(v string) bool { return v == "delete" }),
		size,
		auto,
		t.retention(s),
	}
}

// retention compares how long the topic keeps records with how long outcomes are kept (rule K5).
func (t LogCheck) retention(s *observed) checks.Check {
	const name = "retention.ms"
	longest := t.OutcomeRetention - ReplayWindow
	expected := fmt.Sprintf("less than %v (%v before --outcome-retention)", longest, ReplayWindow)
	if t.OutcomeRetention == 0 {
		expected = "less than outcomes are kept"
	}
	c := t.setting(s, "T4", name, expected, func(string) bool { return true })
	if c.Status != checks.OK {
		return c
	}
	ms, err := strconv.ParseInt(c.Seen, 10, 64)
	if err != nil {
		return checks.Compare("T4", name, expected, c.Seen, false)
	}
	unlimited := ms < 0 || ms > math.MaxInt64/int64(time.Millisecond)
	c.Seen = (time.Duration(ms) * time.Millisecond).String()
	if unlimited {
		c.Seen = "unlimited"
	}
	holds := !unlimited && ms < longest.Milliseconds()
	switch {
	case t.OutcomeRetention == 0:
		return checks.Skip("T4", name, expected, c.Seen+" (compared by the workers)")
	case !holds && !t.Production:
		return checks.Skip("T4", name, expected, c.Seen+" (profile single; a late duplicate may be taken for new)")
	}
	return checks.Compare("T4", name, expected, c.Seen, holds)
}

// setting judges one setting of the topic.
func (t LogCheck) setting(s *observed, id, name, expected string, holds func(string) bool) checks.Check {
	if s.configErr != nil {
		return checks.CanNotTell(id, name, expected, s.configErr)
	}
	seen, known := s.configs[name]
	if !known {
		return checks.Skip(id, name, expected, errNoSetting.Error())
	}
	return checks.Compare(id, name, expected, seen, holds(seen))
}

// reach says whether each position lies within the log, and whether the log up to it is still the one that was applied
// (rule T5). Below its start records were lost by retention; above its end the log was cut, and offsets are used again.
func (t LogCheck) position(s *observed) []checks.Check {
	const within, same = "positions within the log", "epochs of the positions"
	const all, valid = "all", "in the log"
	err := cmp.Or(s.positionErr, s.offsetErr)
	if err == nil && len(s.positions) > len(s.detail.Partitions) {
		err = fmt.Errorf("there are more positions than partitions") // T2 fails
	}
	if err != nil {
		return []checks.Check{checks.CanNotTell("T5", within, all, err), checks.CanNotTell("T5", same, valid, err)}
	}
	outside, cut := "", ""
	for _, p := range s.positions {
		start, end := s.starts[p.Partition], s.ends[p.Partition]
		if (p.NextOffset < start.at || p.NextOffset > end.at) && outside == "" {
			outside = fmt.Sprintf("position %d of partition %d, whose log reaches from %d to %d", p.NextOffset, p.Partition, start.at, end.at)
		}
		if cut == "" && s.wasCut(p) {
			cut = fmt.Sprintf("epoch %d of position %d in partition %d, where the log has it up to %d", p.LeaderEpoch, p.NextOffset, p.Partition, s.epochs[p.Partition].at)
		}
	}
	list := []checks.Check{checks.Compare("T5", within, all, cmp.Or(outside, all), outside == "")}
	if s.epochErr != nil {
		return append(list, checks.CanNotTell("T5", same, valid, s.epochErr))
	}
	return append(list, checks.Compare("T5", same, valid, cmp.Or(cut, valid), cut == ""))
}

// wasCut says whether the record before a position is not the one that was applied. A broker that does not know where an
// epoch ends is believed as long as the epoch is none that it will only come to.
func (s *observed) wasCut(p trade.Position) bool {
	if p.LeaderEpoch < 0 {
		return false // nothing was applied yet
	}
	if newest := s.ends[p.Partition].epoch; newest >= 0 && p.LeaderEpoch > newest {
		return true
	}
	end, known := s.epochs[p.Partition]
	return known && end.at >= 0 && (end.at < p.NextOffset || end.epoch < p.LeaderEpoch)
}
