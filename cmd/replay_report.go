package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"tradestore/postgres"
)

// What is to be done about a dead letter.
const (
	planSubmit = "submit"
	planStored = "stored" // the trade has this version or a higher one: nothing to do
	planRefuse = "refuse" // see why
)

// letter is what is shown of a dead letter.
type letter struct {
	TopicID   string    `json:"topic_id"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	DeadAt    time.Time `json:"dead_at"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	RequestID string    `json:"request_id,omitempty"`
	ReplayOf  string    `json:"replay_of,omitempty"`
	TradeID   string    `json:"trade_id,omitempty"`
	Version   int32     `json:"version,omitempty"`
	Value     []byte    `json:"value"`
	Plan      string    `json:"plan"`
	Why       string    `json:"why,omitempty"`
	Result    *result   `json:"result,omitempty"` // of the submission
}

func letterOf(d *postgres.DeadLetter) *letter {
	l := &letter{TopicID: uuid.UUID(d.TopicID).String(), Partition: d.Partition, Offset: d.Offset, DeadAt: d.DeadAt.UTC(),
		Reason: string(d.Reason), Detail: d.Detail, Value: d.Value, Plan: planSubmit}
	if !d.RequestID.IsZero() {
		l.RequestID = d.RequestID.String()
	}
	if !d.ReplayOf.IsZero() {
		l.ReplayOf = d.ReplayOf.String()
	}
	return l
}

// cause is what dead letters have in common.
type cause struct{ reason, detail string }

// replayReport shows dead letters as they come, and at the end what they have in common.
type replayReport struct {
	env    Env
	cfg    ReplayConfig
	now    time.Time
	counts map[string]int // by plan, and by status of those that were submitted
	causes map[cause]*span
	order  []cause // as they were met
}

// span counts the dead letters of a cause.
type span struct {
	count          int
	oldest, newest time.Time
}

func newReplayReport(env Env, cfg ReplayConfig, now time.Time) *replayReport {
	return &replayReport{env: env, cfg: cfg, now: now, counts: make(map[string]int), causes: make(map[cause]*span)}
}

// add shows one.
func (p *replayReport) add(l *letter) error {
	p.counts[l.Plan]++
	if l.Result != nil {
		p.counts[string(l.Result.Status)]++
	}
	c := cause{l.Reason, l.Detail}
	if p.causes[c] == nil {
		if len(p.causes) >= mostCodes {
			c = cause{"others", ""}
		}
		if p.causes[c] == nil {
			p.causes[c] = &span{oldest: l.DeadAt, newest: l.DeadAt}
			p.order = append(p.order, c)
		}
	}
	s := p.causes[c]
	s.count++
	if l.DeadAt.Before(s.oldest) {
		s.oldest = l.DeadAt
	}
	if l.DeadAt.After(s.newest) {
		s.newest = l.DeadAt
	}
	if p.cfg.JSON {
		text, err := json.Marshal(l)
		if err == nil {
			_, err = io.WriteString(p.env.Stdout, visible(string(text))+"\n")
		}
		return err
	}
	_, err := fmt.Fprintf(p.env.Stdout, "%d/%d  %s ago  request %s  %s: %s  -> %s\n", l.Partition, l.Offset, p.age(l.DeadAt), dash(l.RequestID),
		Clean(l.Reason), Clean(l.Detail), p.plan(l))
	return err
}

// plan tells what is, or was, done about a dead letter.
func (p *replayReport) plan(l *letter) string {
	switch {
	case l.Result != nil:
		return p.env.paintStatus(l.Result.Status) + Clean(fmt.Sprintf(" %s version %d, request %s %s %s", l.TradeID, l.Version, dash(l.Result.RequestID),
			l.Result.Code, l.Result.Detail))
	case l.Plan == planSubmit:
		return p.env.paint(green, "can be submitted") + fmt.Sprintf(": %s version %d", Clean(l.TradeID), l.Version)
	case l.Plan == planStored:
		return "nothing to do: " + Clean(l.Why)
	}
	return p.env.paint(red, "refused") + ": " + Clean(l.Why)
}

func (p *replayReport) age(at time.Time) time.Duration { return p.now.Sub(at).Round(time.Second) }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// conclude shows the sums and returns how the command ends. err is why it ended early, nil if it did not.
func (p *replayReport) conclude(err error) error {
	out := p.env.Stdout
	if p.cfg.JSON {
		out = p.env.Stderr
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nDEAD LETTERS\tOLDEST\tNEWEST\tREASON")
	for _, c := range p.order {
		s := p.causes[c]
		fmt.Fprintf(w, "%d\t%v ago\t%v ago\t%s: %s\n", s.count, p.age(s.oldest), p.age(s.newest), Clean(c.reason), Clean(c.detail))
	}
	if flushed := w.Flush(); flushed != nil {
		return flushed
	}
	n := p.counts
	if p.cfg.Submit {
		fmt.Fprintf(out, "submitted: %d stored, %d failed, %d refused by the service, %d not known; not submitted: %d stored already, %d refused\n",
			n[string(success)], n[string(failed)], n[string(refused)], n[string(pending)]+n[string(unknown)], n[planStored], n[planRefuse])
	} else {
		fmt.Fprintf(out, "%d can be submitted (--submit), %d stored already, %d refused; nothing was changed\n", n[planSubmit], n[planStored], n[planRefuse])
	}
	switch {
	case err != nil:
		return &Exit{exitUnknown, fmt.Errorf("not finished, run it again: %w", err)}
	case n[string(unknown)]+n[string(pending)] > 0:
		return &Exit{exitUnknown, errors.New("not finished, run it again")}
	case p.cfg.Submit && n[string(failed)]+n[string(refused)]+n[planRefuse] > 0:
		return &Exit{Code: exitNo}
	}
	return nil
}
