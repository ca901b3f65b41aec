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

	"tradestore/internal/checks"
	"tradestore/trade"
)

// LogCheck says what the topic must be (rules T1 to T5 and K5).
type LogCheck struct {
	Topic      string
	Partitions int // as configured

	// Production demands several replicas of each record, and a retention. Without it those checks are skipped: an
	// embedded broker has neither.
	Production bool

	// OutcomeRetention is how long outcomes are kept. The topic must delete a record at least ReplayWindow earlier, or a
	// late duplicate would find no outcome (rule K5). 0 means that this role does not know it: the check is skipped.
	OutcomeRetention time.Duration

	// Positions returns the position of each partition of the newest generation, ascending by partition. An error of
	// class trade.Broken means that there are none, or that they belong to another topic. Any other error means that
	// they can't be read now.
	Positions func(context.Context) ([]trade.Position, error)
}

// ReplayWindow is how long before its outcome a record must be deleted from the log (rule K5).
const ReplayWindow = 24 * time.Hour

const (
	minReplicas = 3
	minInSync   = 2
)

// Checks compares the topic with what it must be. The list always has the same rows.
func (c LogCheck) Checks(ctx context.Context, client *kgo.Client) []checks.Check {
	s := c.readState(ctx, client)
	list := c.identityChecks(&s)
	list = append(list, c.replicationChecks(&s)...)
	list = append(list, c.settingChecks(&s)...)
	return append(list, c.positionChecks(&s)...)
}

// row returns one check. err says why the value could not be read; the check is then Unknown.
func row(id, name, expected, seen string, holds bool, err error) checks.Check {
	if err != nil {
		return checks.CanNotTell(id, name, expected, err)
	}
	return checks.Compare(id, name, expected, seen, holds)
}

// identityChecks says whether the positions belong to this topic (rules T1, T2).
func (c LogCheck) identityChecks(s *logState) []checks.Check {
	const there = "there"
	exists := row("T1", "topic "+c.Topic, there, there, true, s.metaErr)
	if s.missing {
		exists = checks.Compare("T1", exists.Name, there, errNoTopic.Error(), false)
	}
	recorded, id, number := "as recorded", fmt.Sprintf("%x", s.detail.TopicID), ""
	if len(s.positions) > 0 { // all positions have the same topic and generation
		recorded, number = fmt.Sprintf("%x", s.positions[0].TopicID), strconv.Itoa(int(s.positions[0].Generation))
	}
	generation := row("T1", "generation of the topic", "the newest", number, true, s.positionErr)
	if trade.ClassOf(s.positionErr) == trade.Broken { // positions of another generation, or none at all
		generation = checks.Compare("T1", generation.Name, generation.Expected, s.positionErr.Error(), false)
	}
	return []checks.Check{
		exists,
		row("T1", "id of the topic", recorded, id, id == recorded, cmp.Or(s.metaErr, s.positionErr)),
		c.countCheck("partitions of the topic", len(s.detail.Partitions), s.metaErr),
		generation,
		c.countCheck("partitions with a position", len(s.positions), s.positionErr),
	}
}

func (c LogCheck) countCheck(name string, seen int, err error) checks.Check {
	return row("T2", name, strconv.Itoa(c.Partitions), strconv.Itoa(seen), seen == c.Partitions, err)
}

// replicationChecks says whether an acknowledged record survives the loss of a broker (rule T3).
func (c LogCheck) replicationChecks(s *logState) []checks.Check {
	replicas := 0
	for i, p := range s.detail.Partitions {
		if i == 0 || len(p.Replicas) < replicas {
			replicas = len(p.Replicas)
		}
	}
	inSync := fmt.Sprintf("%d or more, but fewer than replicas", minInSync)
	list := []checks.Check{
		row("T3", "replicas of each partition", fmt.Sprintf("at least %d", minReplicas), strconv.Itoa(replicas),
			replicas >= minReplicas, s.metaErr),
		s.settingCheck("T3", "min.insync.replicas", inSync, func(v string) bool {
			n, err := strconv.Atoi(v)
			return err == nil && n >= minInSync && n < replicas
		}),
		s.settingCheck("T3", uncleanElectionSetting, "false", func(v string) bool { return v == "false" }),
	}
	if c.Production {
		return list
	}
	for i, check := range list {
		seen := check.Seen
		if check.Status != checks.Skipped {
			seen += " (profile single)"
		}
		list[i] = checks.Skip(check.ID, check.Name, check.Expected, seen)
	}
	return list
}

// settingChecks says whether the topic takes every record and keeps it long enough (rules T4, K5).
func (c LogCheck) settingChecks(s *logState) []checks.Check {
	autoCreate := row("T4", "auto.create.topics.enable", "false", s.autoCreate, s.autoCreate == "false", s.autoCreateErr)
	if errors.Is(s.autoCreateErr, errNoSetting) {
		autoCreate = checks.Skip("T4", autoCreate.Name, autoCreate.Expected, autoCreate.Seen)
	}
	size := s.settingCheck("T4", maxBytesSetting, fmt.Sprintf("%d or more", maxBatchBytes), func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= maxBatchBytes
	})
	if size.Seen == closedBytes {
		size.Seen += ", which takes no record: 'tradestore migrate --new-generation' has closed the topic (rule T10)"
	}
	return []checks.Check{
		s.settingCheck("T4", "cleanup.policy", "delete", func(v string) bool { return v == "delete" }),
		size,
		autoCreate,
		c.retentionCheck(s),
	}
}

// retentionCheck compares how long the topic keeps records with how long outcomes are kept (rule K5).
func (c LogCheck) retentionCheck(s *logState) checks.Check {
	const name = "retention.ms"
	longest := c.OutcomeRetention - ReplayWindow
	expected := fmt.Sprintf("less than %v (%v before --outcome-retention)", longest, ReplayWindow)
	if c.OutcomeRetention == 0 {
		expected = "less than outcomes are kept"
	}
	check := s.settingCheck("T4", name, expected, func(string) bool { return true })
	if check.Status != checks.OK {
		return check
	}
	ms, err := strconv.ParseInt(check.Seen, 10, 64)
	if err != nil {
		return checks.Compare("T4", name, expected, check.Seen, false)
	}
	seen := (time.Duration(ms) * time.Millisecond).String()
	unlimited := ms < 0 || ms > math.MaxInt64/int64(time.Millisecond)
	if unlimited {
		seen = "unlimited"
	}
	holds := !unlimited && ms < longest.Milliseconds()
	switch {
	case c.OutcomeRetention == 0:
		return checks.Skip("T4", name, expected, seen+" (compared by the workers)")
	case !holds && !c.Production:
		return checks.Skip("T4", name, expected, seen+" (profile single; a late duplicate may be applied again)")
	}
	return checks.Compare("T4", name, expected, seen, holds)
}

// settingCheck judges one setting of the topic. A setting that the broker does not know is skipped (rule T8).
func (s *logState) settingCheck(id, name, expected string, holds func(string) bool) checks.Check {
	seen, known := s.configs[name]
	if s.configErr == nil && !known {
		return checks.Skip(id, name, expected, errNoSetting.Error())
	}
	return row(id, name, expected, seen, holds(seen), s.configErr)
}

// positionChecks says whether each position lies within the log, and whether the log below it is still the one that was
// applied (rule T5). A position below the start: retention deleted records that were not applied. A position above the
// end: the log was truncated, and its offsets will be used again.
func (c LogCheck) positionChecks(s *logState) []checks.Check {
	const within, same = "positions within the log", "epochs of the positions"
	const all, valid = "all", "in the log"
	err := cmp.Or(s.positionErr, s.offsetErr)
	if err == nil && len(s.positions) > len(s.detail.Partitions) {
		err = errors.New("there are more positions than partitions") // T2 fails
	}
	if err != nil {
		return []checks.Check{checks.CanNotTell("T5", within, all, err), checks.CanNotTell("T5", same, valid, err)}
	}
	outside, truncated := "", ""
	for _, p := range s.positions {
		start, end := s.starts[p.Partition], s.ends[p.Partition]
		if (p.NextOffset < start.at || p.NextOffset > end.at) && outside == "" {
			outside = fmt.Sprintf("position %d of partition %d, whose log reaches from %d to %d",
				p.NextOffset, p.Partition, start.at, end.at)
		}
		if truncated == "" && s.truncated(p) {
			truncated = fmt.Sprintf("epoch %d of position %d in partition %d, where the log has it up to %d",
				p.LeaderEpoch, p.NextOffset, p.Partition, s.epochs[p.Partition].at)
		}
	}
	return []checks.Check{ // a leader that a failover shows for a moment may not have all of the log
		checks.Compare("T5", within, all, cmp.Or(outside, all), outside == "").Transient(),
		row("T5", same, valid, cmp.Or(truncated, valid), truncated == "", s.epochErr).Transient(),
	}
}
