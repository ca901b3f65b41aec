package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"tradestore/postgres"
	"tradestore/trade"
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
	process *process
	cfg     *replayCommand
	now     time.Time
	counts  map[string]int // by plan, and by status of those that were submitted
	causes  map[cause]*span
	order   []cause // as they were met
}

// span counts the dead letters of a cause.
type span struct {
	count          int
	oldest, newest time.Time
}

func newReplayReport(p *process, cfg *replayCommand, now time.Time) *replayReport {
	return &replayReport{process: p, cfg: cfg, now: now, counts: make(map[string]int), causes: make(map[cause]*span)}
}

// add shows one.
func (r *replayReport) add(l *letter) error {
	r.counts[l.Plan]++
	if l.Result != nil {
		r.counts[string(l.Result.Status)]++
	}
	c := cause{l.Reason, l.Detail}
	if r.causes[c] == nil {
		if len(r.causes) >= mostCodes {
			c = cause{"others", ""}
		}
		if r.causes[c] == nil {
			r.causes[c] = &span{oldest: l.DeadAt, newest: l.DeadAt}
			r.order = append(r.order, c)
		}
	}
	s := r.causes[c]
	s.count++
	if l.DeadAt.Before(s.oldest) {
		s.oldest = l.DeadAt
	}
	if l.DeadAt.After(s.newest) {
		s.newest = l.DeadAt
	}
	if r.cfg.JSON {
		text, err := json.Marshal(l)
		if err == nil {
			_, err = io.WriteString(r.process.stdout, printableJSON(string(text))+"\n")
		}
		return err
	}
	_, err := fmt.Fprintf(r.process.stdout, "%d/%d  %s ago  request %s  %s: %s  -> %s\n", l.Partition, l.Offset,
		r.age(l.DeadAt), dash(l.RequestID),
		printable(l.Reason), printable(l.Detail), r.plan(l))
	return err
}

// plan tells what is, or was, done about a dead letter.
func (r *replayReport) plan(l *letter) string {
	switch {
	case l.Result != nil:
		return r.process.paintStatus(l.Result.Status) +
			printable(fmt.Sprintf(" %s version %d, request %s %s %s", l.TradeID, l.Version, dash(l.Result.RequestID),
				l.Result.Code, l.Result.Detail))
	case l.Plan == planSubmit:
		return r.process.paint(green, "can be submitted") + fmt.Sprintf(": %s version %d", printable(l.TradeID), l.Version)
	case l.Plan == planStored:
		return "nothing to do: " + printable(l.Why)
	}
	return r.process.paint(red, "refused") + ": " + printable(l.Why)
}

func (r *replayReport) age(at time.Time) time.Duration { return r.now.Sub(at).Round(time.Second) }

// conclude shows the sums and returns how the command ends. err is why it ended early, nil if it did not.
func (r *replayReport) conclude(err error) error {
	out := r.process.stdout
	if r.cfg.JSON {
		out = r.process.stderr
	}
	w := tabulate(out)
	fmt.Fprintln(w, "\nDEAD LETTERS\tOLDEST\tNEWEST\tREASON")
	for _, c := range r.order {
		s := r.causes[c]
		fmt.Fprintf(w, "%d\t%v ago\t%v ago\t%s: %s\n", s.count, r.age(s.oldest), r.age(s.newest), printable(c.reason),
			printable(c.detail))
	}
	if flushed := w.Flush(); flushed != nil {
		return flushed
	}
	n := r.counts
	if r.cfg.Submit {
		fmt.Fprintf(out, "submitted: %d stored, %d failed, %d refused by the service, %d not known; "+
			"not submitted: %d stored already, %d refused\n",
			n[string(trade.Success)], n[string(trade.Failed)], n[string(refused)], n[string(trade.Pending)]+n[string(unknown)],
			n[planStored], n[planRefuse])
	} else {
		fmt.Fprintf(out, "%d can be submitted (--submit), %d stored already, %d refused; nothing was changed\n",
			n[planSubmit], n[planStored], n[planRefuse])
	}
	switch {
	case err != nil:
		return &exitError{exitUnknown, fmt.Errorf("not finished, run it again: %w", err)}
	case n[string(unknown)]+n[string(trade.Pending)] > 0:
		return &exitError{exitUnknown, errors.New("not finished, run it again")}
	case r.cfg.Submit && n[string(trade.Failed)]+n[string(refused)]+n[planRefuse] > 0:
		return &exitError{code: exitFailed}
	}
	return nil
}
