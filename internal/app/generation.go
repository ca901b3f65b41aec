package app

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/trade"
)

// move leads from the topic that the database follows to another one, with more partitions (rule T10). The danger is a
// record that the old topic takes after its end was read: its server says 202, and nobody reads it. Servers can't be
// counted, so the topic is closed at the brokers before its end is read; a server that still runs gets no record in and
// answers 503.
//
//	worked through? -> make the new topic -> close the old one -> wait for the last 202 -> worked through? -> follow
//
// A crash at any line leaves the old topic in use, open or closed, or the new one. The same command goes on from each
// of them; a plain migrate with the old settings opens a closed topic again.
type move struct {
	cfg      MigrateConfig
	log      zerolog.Logger
	client   *kgo.Client
	topics   *postgres.Topics // held all the time: no other migrate opens what this one has closed
	requests requestStore
	deadline time.Duration // --accept-deadline of the servers, the longer one while it changes
}

func (m *move) run(ctx context.Context) error {
	old, err := m.topics.Newest(ctx)
	if err != nil {
		return err
	}
	topic, partitions := m.cfg.Kafka.Topic, m.cfg.Kafka.Partitions
	switch {
	case old.Topic == topic && len(old.Positions) == partitions:
		m.log.Info().Str("topic", topic).Int32("generation", old.Number).Msg("the database follows this topic already")
		return nil
	case old.Topic == topic:
		return fmt.Errorf("topic %s keeps its %d partitions; --new-generation takes another --topic for %d",
			topic, len(old.Positions), partitions)
	case partitions < len(old.Positions): // the outcomes of a partition that is gone would have no owner
		return fmt.Errorf("topic %s has %d partitions, a new generation takes as many or more, not %d (--partitions)",
			old.Topic, len(old.Positions), partitions)
	}
	id, err := kafka.CheckTopic(ctx, m.client, old.Topic, len(old.Positions))
	switch {
	case err != nil:
		return fmt.Errorf("cannot leave topic %s: %w", old.Topic, err)
	case id != old.ID:
		return fmt.Errorf("cannot leave topic %s: it was created anew: expected id %x, seen: %x", old.Topic, old.ID, id)
	}
	if err := m.leave(ctx, old); err != nil {
		return m.stay(ctx, old, err)
	}
	m.log.Info().Str("topic", topic).Int("partitions", partitions).Int32("generation", old.Number+1).
		Str("before", old.Topic).
		Msg("the database follows the new topic: start servers and workers with these --topic and --partitions; " +
			"the one before takes no more records and can be deleted when they are no longer wanted")
	return nil
}

// leave moves to the new topic if nothing is left to do in the old one.
func (m *move) leave(ctx context.Context, old postgres.Generation) error {
	if _, err := m.worked(ctx, old); err != nil {
		return err
	}
	id, err := m.cfg.createTopic(ctx)
	if err != nil {
		return err
	}
	ends, err := kafka.Ends(ctx, m.client, m.cfg.Kafka.Topic, m.cfg.Kafka.Partitions)
	if err != nil {
		return err
	}
	for p, end := range ends {
		if end != 0 { // positions start at 0: whatever is there would be applied
			return fmt.Errorf("topic %s is not new: partition %d expected empty, seen: %d records; take another name (--topic)",
				m.cfg.Kafka.Topic, p, end)
		}
	}
	if err := kafka.CloseTopic(ctx, m.client, old.Topic); err != nil {
		return err
	}
	m.log.Info().Str("topic", old.Topic).Stringer("waiting", m.deadline).Msg("the topic takes no more records")
	// A record that was taken before can still be on its way to the other replicas, beyond the end that is read. After
	// this wait no server answers 202 for it (C6). Its request ends as NOT_DELIVERED, which is correct.
	select {
	case <-time.After(m.deadline):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	old, err = m.worked(ctx, old)
	if err != nil {
		return err
	}
	return m.topics.Follow(ctx, old, m.cfg.Kafka.Topic, id, m.cfg.Kafka.Partitions)
}

// worked returns the old generation with its positions where its log ends. Errors: something is left to do there, or
// that can't be told.
func (m *move) worked(ctx context.Context, old postgres.Generation) (postgres.Generation, error) {
	ends, err := kafka.Ends(ctx, m.client, old.Topic, len(old.Positions))
	if err != nil {
		return old, err
	}
	now, err := m.topics.Newest(ctx) // after the ends: positions only grow
	if err != nil {
		return old, err
	}
	for _, p := range now.Positions {
		if end := ends[p.Partition]; p.NextOffset != end {
			return old, fmt.Errorf("the workers are not through with topic %s: position of partition %d expected %d, "+
				"where its log ends, seen: %d; stop the servers and let the workers finish",
				old.Topic, p.Partition, end, p.NextOffset)
		}
	}
	if err := m.topics.Projected(ctx); err != nil {
		return old, fmt.Errorf("the workers have outcomes to show: %w; stop the servers and let the workers finish", err)
	}
	pending, err := m.requests.pending(ctx, fewPending)
	if err != nil {
		return old, err
	}
	if len(pending) > 0 {
		return old, fmt.Errorf("requests expected to have ended, seen: %s PENDING, the oldest is %s of %s; "+
			"stop the servers and let the workers finish: they end such requests, some time after --orphan-after",
			amount(pending), pending[0].ID, pending[0].AcceptedAt.Format(time.RFC3339))
	}
	return now, nil
}

func amount(pending []trade.PendingRequest) string {
	if len(pending) < fewPending {
		return fmt.Sprint(len(pending))
	}
	return fmt.Sprintf("%d or more", fewPending)
}

// stay opens the old topic again after cause, also at the end of ctx, unless it can't be certain that it is still the
// one to follow.
func (m *move) stay(ctx context.Context, old postgres.Generation, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptLimit)
	defer cancel()
	now, err := m.topics.Newest(ctx) // by the session that holds the lock: what it sees stays so
	switch {
	case err == nil && now.Number > old.Number:
		return nil // only the answer was lost
	case err == nil:
		_, err = kafka.OpenTopic(ctx, m.client, old.Topic)
	}
	if err != nil {
		return fmt.Errorf("cannot move from topic %[1]s: %[2]w; it may be closed for records: "+
			"the same command goes on from there, 'tradestore migrate --topic %[1]s --partitions %[3]d' opens it (%[4]w)",
			old.Topic, cause, len(old.Positions), err)
	}
	return fmt.Errorf("cannot move from topic %s, which is still in use: %w", old.Topic, cause)
}
