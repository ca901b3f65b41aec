package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/trade"
)

// logState is what the brokers and the database say of the log. A part that could not be read has an error beside it.
type logState struct {
	detail    kmsg.MetadataResponseTopic
	metaErr   error
	missing   bool // there is no such topic: the parts below are not read
	configs   map[string]string
	configErr error

	autoCreate    string // "true" if one of the brokers says so
	autoCreateErr error

	starts, ends map[int32]offset
	offsetErr    error
	positions    []trade.Position
	positionErr  error
	epochs       map[int32]offset // where the epoch of each position ends
	epochErr     error
}

var (
	errNoTopic   = errors.New("no such topic")
	errNoSetting = errors.New("the broker does not know this setting")
)

// A broker may not know a new topic yet, so one that is missing is asked for again.
const (
	missingTopicRetries = 4
	missingTopicDelay   = 250 * time.Millisecond
)

// readState reads everything. The order matters: the start of the log is read before the positions, and its end after
// them. All of them only grow, so a log that moves meanwhile is never taken for a broken one.
func (c LogCheck) readState(ctx context.Context, client *kgo.Client) logState {
	var s logState
	var brokers []int32
	s.detail, brokers, s.metaErr = metadata(ctx, client, c.Topic)
	for n := 0; errors.Is(s.metaErr, errNoTopic) && n < missingTopicRetries && sleep(ctx, missingTopicDelay); n++ {
		s.detail, brokers, s.metaErr = metadata(ctx, client, c.Topic)
	}
	s.missing = errors.Is(s.metaErr, errNoTopic)
	s.autoCreate, s.autoCreateErr = brokerSetting(ctx, client, brokers, s.metaErr, "auto.create.topics.enable")
	if s.metaErr != nil {
		s.positions, s.positionErr = c.Positions(ctx)
		s.configErr, s.offsetErr, s.epochErr = s.metaErr, s.metaErr, s.metaErr
		return s
	}
	partitions := len(s.detail.Partitions)
	s.configs, s.configErr = topicSettings(ctx, client, c.Topic)
	s.starts, s.offsetErr = listOffsets(ctx, client, c.Topic, partitions, earliest)
	if s.positions, s.positionErr = c.Positions(ctx); s.positionErr != nil {
		return s
	}
	if s.offsetErr == nil {
		s.ends, s.offsetErr = listOffsets(ctx, client, c.Topic, partitions, latest)
	}
	if len(s.positions) <= partitions {
		s.epochs, s.epochErr = epochEnds(ctx, client, c.Topic, s.positions)
	}
	return s
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// truncated says whether the record below a position is not the one that was applied. A broker may not know where an
// epoch ends. Then the position counts as valid, unless its epoch is newer than the newest one of the log.
func (s *logState) truncated(p trade.Position) bool {
	if p.LeaderEpoch < 0 {
		return false // nothing was applied yet
	}
	if newest := s.ends[p.Partition].epoch; newest >= 0 && p.LeaderEpoch > newest {
		return true
	}
	end, known := s.epochs[p.Partition]
	return known && end.at >= 0 && (end.at < p.NextOffset || end.epoch < p.LeaderEpoch)
}
