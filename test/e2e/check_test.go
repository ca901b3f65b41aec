package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

var sampleStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is a small run that kept every promise: five trades in three versions over two partitions, one of them posted
// out of order, one same version twice, one poison record, one refusal, one orphan, one post without an answer.
func sample() (*Ledger, *Evidence) {
	l := NewLedger()
	ev := &Evidence{
		Generation: Generation{LogEnd: map[int32]int64{}, Next: map[int32]int64{}, Steps: map[int32][]Step{}},
		Opened:     map[trade.RequestID]bool{}, States: map[trade.RequestID]State{},
	}
	at := sampleStart
	post := func(id string, version int32, status int, logged bool) *Post {
		at = at.Add(10 * time.Millisecond)
		tr := l.newTrade(id, version)
		p := &Post{Trade: tr, Sent: at, Answered: at.Add(5 * time.Millisecond), Status: status,
			CorrelationID: "corr-" + tr.CounterpartyID, RetryAfter: "1"}
		rid := trade.NewRequestID(at)
		if status == http.StatusAccepted {
			p.RequestID = rid
		}
		l.Add(p)
		if logged {
			value, _ := json.Marshal(DocumentOf(tr))
			ev.append(trade.Record{Request: trade.Request{ID: rid, Trade: tr, AcceptedAt: at, CorrelationID: p.CorrelationID},
				Value: value}, id)
			ev.Opened[rid] = true
		}
		return p
	}
	for _, version := range []int32{1, 3, 2, 3} {
		for id := range 5 {
			post(fmt.Sprintf("T%d", id), version, http.StatusAccepted, true)
		}
	}
	post("T0", 1, http.StatusBadRequest, false).Code = trade.StaleVersion
	post("T1", 4, 0, true)
	orphan := post("T2", 9, http.StatusServiceUnavailable, false)
	orphan.RequestID = trade.NewRequestID(at)
	ev.Opened[orphan.RequestID] = true
	ev.States[orphan.RequestID] = State{orphan.RequestID, trade.Pending, "T2", 9, ""}
	poison := trade.Record{Request: trade.Request{ID: trade.NewRequestID(at), AcceptedAt: at}, Value: []byte("{"),
		Fault: "unreadable"}
	l.Inject(ev.append(poison, "T0"))
	ev.decide(l)
	return l, ev
}

// append puts a record at the end of the partition that the trade id stands for.
func (ev *Evidence) append(rec trade.Record, id string) Slot {
	rec.Partition = int32(id[1]) % 2
	rec.Offset = ev.LogEnd[rec.Partition]
	ev.LogEnd[rec.Partition]++
	ev.Log = append(ev.Log, rec)
	return Slot{rec.Partition, rec.Offset}
}

// project fills the stores as a faultless worker leaves them.
func (ev *Evidence) decide(l *Ledger) {
	slices.SortStableFunc(ev.Log, func(a, b trade.Record) int { return int(a.Partition - b.Partition) })
	want := replay(ev.generations(), nil)
	ev.Rows, ev.Letters = want.rows, want.letters
	for id, d := range want.decisions {
		ev.Journal = append(ev.Journal, d)
		ev.States[id] = State{id, d.Status, d.Trade.TradeID, d.Trade.Version, d.Reason}
		l.Observe(ev.States[id])
		if d.Status == trade.Success {
			ev.Applied = append(ev.Applied, Applied{d.Trade.TradeID, d.Slot.Offset, d.Slot.Offset, 1, d.Slot.Offset})
		}
	}
	for partition, end := range ev.LogEnd {
		ev.Next[partition] = end
		ev.Steps[partition] = []Step{{0, 5}, {5, end}}
	}
	slices.SortFunc(ev.Journal, func(a, b Decision) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
}

func TestCheckFindsNothingWrong(t *testing.T) {
	l, ev := sample()
	report := Check(l, ev, OrphansAllowed)
	require.Empty(t, report.Broken(), report)
	require.Equal(t, "23 posts, 22 records, 22 decisions, 11 rows, 1 dead letters", report.String())
}

// A checker that sees nothing is worse than none: each fault injected in a good run must turn it red.
func TestCheckFindsInjectedFaults(t *testing.T) {
	f := func(fault string, rules []string, inject func(*Ledger, *Evidence)) {
		t.Helper()
		l, ev := sample()
		inject(l, ev)
		assert.Equal(t, rules, Check(l, ev, OrphansAllowed).Broken(), fault)
	}
	stored := trade.Key{TradeID: "T3", Version: 3}
	stale := func(ev *Evidence) int {
		return slices.IndexFunc(ev.Journal, func(d Decision) bool { return d.Reason == trade.StaleVersion })
	}
	f("undescribed answer", []string{"API"}, func(l *Ledger, _ *Evidence) { l.breach(ErrUnavailable) })
	f("row dropped", []string{"I3"}, func(_ *Ledger, ev *Evidence) { delete(ev.Rows, stored) })
	f("row nobody sent", []string{"I3"},
		func(_ *Ledger, ev *Evidence) { ev.Rows[trade.Key{TradeID: "T3", Version: 7}] = Row{} })
	f("stale row stored", []string{"I3"},
		func(_ *Ledger, ev *Evidence) { ev.Rows[trade.Key{TradeID: "T3", Version: 2}] = Row{} })
	f("row with other content", []string{"I3"}, func(_ *Ledger, ev *Evidence) {
		row := ev.Rows[stored]
		row.Trade.BookID = "B-2"
		ev.Rows[stored] = row
	})
	f("row of an earlier record", []string{"I3"}, func(_ *Ledger, ev *Evidence) {
		row := ev.Rows[stored]
		row.Slot.Offset--
		ev.Rows[stored] = row
	})
	f("journal row missing", []string{"I4"}, func(_ *Ledger, ev *Evidence) { ev.Journal = ev.Journal[1:] })
	f("journal row doubled", []string{"I4"},
		func(_ *Ledger, ev *Evidence) { ev.Journal = append(ev.Journal, ev.Journal[0]) })
	f("outcome flipped", []string{"I4"}, func(_ *Ledger, ev *Evidence) { ev.Journal[stale(ev)].Status = trade.Success })
	f("reason changed", []string{"I4"},
		func(_ *Ledger, ev *Evidence) { ev.Journal[stale(ev)].Reason = trade.InvalidRecord })
	f("journalled content changed", []string{"I4"}, func(_ *Ledger, ev *Evidence) { ev.Journal[0].Trade.CreatedDate++ })
	f("accepted_at changed", []string{"I4"}, func(_ *Ledger, ev *Evidence) { ev.Journal[0].AcceptedAt = sampleStart })
	f("outcome without a record", []string{"I4"}, func(_ *Ledger, ev *Evidence) {
		ev.Journal = append(ev.Journal, Decision{RequestID: trade.NewRequestID(sampleStart)})
	})
	f("shown status flipped", []string{"I4", "I6"}, func(_ *Ledger, ev *Evidence) {
		id := ev.Journal[stale(ev)].RequestID
		ev.States[id] = State{RequestID: id, Status: trade.Success, TradeID: "T0", Version: 2}
	})
	f("shown PENDING for ever", []string{"I4", "I5", "I6"}, func(_ *Ledger, ev *Evidence) {
		id := ev.Journal[0].RequestID
		ev.States[id] = State{id, trade.Pending, "T0", 1, ""}
	})
	f("accepted and unknown to GET", []string{"I1"},
		func(_ *Ledger, ev *Evidence) { delete(ev.States, ev.Journal[0].RequestID) })
	f("terminal state changed between two reads", []string{"I6"}, func(l *Ledger, ev *Evidence) {
		id := ev.Journal[0].RequestID
		l.Observe(State{id, trade.Failed, "T0", 1, trade.StaleVersion})
	})
	f("accepted and lost from the log", []string{"I1", "I3", "I4"}, func(_ *Ledger, ev *Evidence) {
		at := slices.IndexFunc(ev.Log, func(r trade.Record) bool { return r.Trade.TradeID == "T3" && r.Trade.Version == 1 })
		ev.Log = slices.Delete(ev.Log, at, at+1)
	})
	f("accepted and ended NOT_DELIVERED", []string{"I1", "I4", "I6"}, func(_ *Ledger, ev *Evidence) {
		id := ev.Journal[0].RequestID
		ev.States[id] = State{id, trade.Failed, "T0", 1, trade.NotDelivered}
	})
	f("202 without an id", []string{"P5"}, func(l *Ledger, _ *Evidence) { l.posts[0].RequestID = trade.RequestID{} })
	f("202 without Retry-After", []string{"P5"}, func(l *Ledger, _ *Evidence) { l.posts[0].RetryAfter = "" })
	f("503 without Retry-After", []string{"I9"}, func(l *Ledger, _ *Evidence) { l.posts[22].RetryAfter = "" })
	f("500", []string{"I9"}, func(l *Ledger, _ *Evidence) { l.posts[21].Status = http.StatusInternalServerError })
	f("one id for two posts", []string{"I2", "I4"},
		func(l *Ledger, _ *Evidence) { l.posts[0].RequestID = l.posts[1].RequestID })
	f("orphan shown as stored", []string{"I5", "I6"}, func(l *Ledger, ev *Evidence) {
		orphan := l.posts[22].RequestID
		l.Observe(State{orphan, trade.Failed, "T2", 9, trade.NotDelivered})
		ev.States[orphan] = State{orphan, trade.Success, "T2", 9, ""}
	})
	f("record of a refused post", []string{"I2"}, func(l *Ledger, _ *Evidence) {
		l.posts[21].Status, l.posts[21].Code = http.StatusBadRequest, trade.StaleVersion
	})
	f("record of a shed post", []string{"I2"},
		func(l *Ledger, _ *Evidence) { l.posts[21].Status = http.StatusServiceUnavailable })
	f("record with other bytes", []string{"I2"},
		func(_ *Ledger, ev *Evidence) { ev.Log[0].Value = []byte(`{"counterparty_id":"CP-0000001"}`) })
	f("record nobody sent", []string{"I2"}, func(_ *Ledger, ev *Evidence) { ev.Log[0].Value = []byte(`{}`) })
	f("record that is no JSON", []string{"I2"}, func(_ *Ledger, ev *Evidence) { ev.Log[0].Value = nil })
	f("record of another call", []string{"I2", "I4"},
		func(_ *Ledger, ev *Evidence) { ev.Log[0].CorrelationID = "corr-other" })
	f("record without a PENDING entry", []string{"P1"}, func(_ *Ledger, ev *Evidence) { delete(ev.Opened, ev.Log[0].ID) })
	f("dead letter missing", []string{"E7"}, func(_ *Ledger, ev *Evidence) { clear(ev.Letters) })
	f("dead letter of other bytes", []string{"E7"}, func(_ *Ledger, ev *Evidence) {
		for slot := range maps.Clone(ev.Letters) {
			ev.Letters[slot] = Letter{}
		}
	})
	f("dead letter of a good record", []string{"E7"}, func(_ *Ledger, ev *Evidence) { ev.Letters[Slot{1, 0}] = Letter{} })
	f("log not applied to its end", []string{"I11"}, func(_ *Ledger, ev *Evidence) { ev.LogEnd[0]++ })
	f("position beyond the log", []string{"I11"}, func(_ *Ledger, ev *Evidence) { ev.LogEnd[0]-- })
	f("position without a row", []string{"I11"}, func(_ *Ledger, ev *Evidence) { delete(ev.Next, 1) })
	f("position went back", []string{"I11"}, func(_ *Ledger, ev *Evidence) {
		ev.Steps[0] = []Step{{0, 7}, {7, 5}, {5, ev.Next[0]}}
	})
	f("position jumped", []string{"I11"}, func(_ *Ledger, ev *Evidence) { ev.Steps[0] = []Step{{0, 5}, {6, ev.Next[0]}} })
	f("earlier record applied later", []string{"I7"}, func(_ *Ledger, ev *Evidence) {
		ev.Applied = append(ev.Applied, Applied{"T3", 99, 99, 1, 0})
	})
	f("records of one request swapped", []string{"order"}, func(l *Ledger, _ *Evidence) {
		var together []*Post // T3 in its versions 1 and 3, which lie in the log in this order
		for _, p := range l.posts {
			if p.Trade.TradeID == "T3" && len(together) < 2 {
				together = append(together, p)
			}
		}
		first, second := together[0], together[1]
		first.Bulk, second.Bulk, first.Place = first, first, 1
		first.Sent, first.Answered = second.Sent, second.Answered
	})
	f("records of one client swapped", []string{"order"}, func(l *Ledger, _ *Evidence) {
		first, second := l.posts[3], l.posts[8] // T3 in version 1 and 3
		first.Sent, first.Answered, second.Sent, second.Answered = second.Sent, second.Answered, first.Sent, first.Answered
	})
}

// moved is the sample with a second topic: T3 in version 3 once more, at offset 0.
func moved() (l *Ledger, ev *Evidence) {
	l, ev = sample()
	first := ev.Generation
	ev.Generation = Generation{LogEnd: map[int32]int64{}, Next: map[int32]int64{}, Steps: map[int32][]Step{}}
	at := sampleStart.Add(time.Hour)
	tr := l.newTrade("T3", 3)
	p := &Post{Trade: tr, Sent: at, Answered: at, Status: http.StatusAccepted, RequestID: trade.NewRequestID(at),
		CorrelationID: "corr", RetryAfter: "1"}
	l.Add(p)
	value, _ := json.Marshal(DocumentOf(tr))
	ev.append(trade.Record{Request: trade.Request{ID: p.RequestID, Trade: tr, AcceptedAt: at, CorrelationID: "corr"},
		Value: value}, "T3")
	ev.Opened[p.RequestID], ev.Earlier = true, []Generation{first}
	slot := Slot{ev.Log[0].Partition, 0}
	ev.Journal = append(ev.Journal, Decision{RequestID: p.RequestID, Status: trade.Success, Trade: tr, Generation: 2,
		Slot: slot, AcceptedAt: at, CorrelationID: "corr"})
	ev.Rows[tr.Key()] = Row{tr, p.RequestID, 2, slot}
	ev.States[p.RequestID] = State{p.RequestID, trade.Success, "T3", 3, ""}
	ev.Applied = append(ev.Applied, Applied{"T3", 100, 100, 2, 0})
	ev.Next[slot.Partition], ev.Steps[slot.Partition] = 1, []Step{{0, 1}}
	return l, ev
}

// Offsets start over with a topic: what lies in the later one is later.
func TestCheckAcrossTopics(t *testing.T) {
	f := func(fault string, rules []string, inject func(*Ledger, *Evidence)) {
		t.Helper()
		l, ev := moved()
		inject(l, ev)
		report := Check(l, ev, OrphansAllowed)
		assert.Equal(t, rules, report.Broken(), "%s: %s", fault, report)
	}
	f("none", nil, func(*Ledger, *Evidence) {})
	f("earlier topic not applied to its end", []string{"I11"}, func(_ *Ledger, ev *Evidence) { ev.Earlier[0].LogEnd[0]++ })
	f("earlier position jumped", []string{"I11"},
		func(_ *Ledger, ev *Evidence) { ev.Earlier[0].Steps[0] = []Step{{1, ev.Earlier[0].Next[0]}} })
	f("record lost from the earlier topic", []string{"I1", "I3", "I4"},
		func(_ *Ledger, ev *Evidence) { ev.Earlier[0].Log = ev.Earlier[0].Log[1:] })
	f("row of the earlier topic kept", []string{"I3"}, func(_ *Ledger, ev *Evidence) {
		row := ev.Rows[trade.Key{TradeID: "T3", Version: 3}]
		row.Generation = 1
		ev.Rows[row.Trade.Key()] = row
	})
	f("decided in the wrong topic", []string{"I4"},
		func(_ *Ledger, ev *Evidence) { ev.Journal[len(ev.Journal)-1].Generation = 1 })
	f("applied from the earlier topic afterwards", []string{"I7"}, func(_ *Ledger, ev *Evidence) {
		ev.Applied = append(ev.Applied, Applied{"T3", 101, 101, 1, 99})
	})
}

// closed is the sample with its orphan closed, as the orphan reaper leaves it.
func closed() (l *Ledger, ev *Evidence, orphan *Decision) {
	l, ev = sample()
	p := l.posts[22]
	partition := int32(p.Trade.TradeID[1]) % 2
	ev.Journal = append(ev.Journal, Decision{
		RequestID: p.RequestID, Status: trade.Failed, Reason: trade.NotDelivered,
		Trade:      trade.Trade{TradeID: "T2", Version: 9},
		Generation: 1, Slot: Slot{partition, -1}, AcceptedAt: sampleStart, ClosedAt: ev.LogEnd[partition],
	})
	ev.States[p.RequestID] = State{p.RequestID, trade.Failed, "T2", 9, trade.NotDelivered}
	return l, ev, &ev.Journal[len(ev.Journal)-1]
}

// What the orphan reaper closed is out of the replay, for good and only where its record was not there.
func TestCheckClosedRequests(t *testing.T) {
	f := func(fault string, rules []string, inject func(*Ledger, *Evidence, *Decision)) {
		t.Helper()
		l, ev, orphan := closed()
		inject(l, ev, orphan)
		assert.Equal(t, rules, Check(l, ev, OrphansClosed).Broken(), fault)
	}
	late := func(ev *Evidence, orphan *Decision) int64 {
		value, _ := json.Marshal(Document{TradeID: "T2"})
		slot := ev.append(trade.Record{Request: trade.Request{ID: orphan.RequestID}, Value: value}, "T2")
		ev.Next[slot.Partition]++
		ev.Steps[slot.Partition] = append(ev.Steps[slot.Partition], Step{slot.Offset, slot.Offset + 1})
		return slot.Offset
	}
	f("none", nil, func(*Ledger, *Evidence, *Decision) {})
	// but its bytes are
	f("a record that came late is no fault", []string{"I2"}, func(_ *Ledger, ev *Evidence, d *Decision) { late(ev, d) })
	f("closed with its record in the log", []string{"I2", "R5"},
		func(_ *Ledger, ev *Evidence, d *Decision) { d.ClosedAt = late(ev, d) + 1 })
	f("closed and stored", []string{"I3"}, func(_ *Ledger, ev *Evidence, d *Decision) {
		ev.Rows[trade.Key{TradeID: "T2", Version: 9}] = Row{RequestID: d.RequestID}
	})
	f("closed as stored", []string{"I4"}, func(_ *Ledger, _ *Evidence, d *Decision) { d.Status = trade.Success })
	f("closed by a position unknown", []string{"R4"}, func(_ *Ledger, _ *Evidence, d *Decision) { d.ClosedAt = -1 })
	f("closed twice", []string{"I4"}, func(_ *Ledger, ev *Evidence, d *Decision) { ev.Journal = append(ev.Journal, *d) })
	f("closed and shown PENDING", []string{"I4", "I5"}, func(_ *Ledger, ev *Evidence, d *Decision) {
		ev.States[d.RequestID] = State{d.RequestID, trade.Pending, "T2", 9, ""}
	})
	l, ev, orphan := closed()
	ev.States[orphan.RequestID] = State{orphan.RequestID, trade.Pending, "T2", 9, ""}
	assert.Empty(t, Check(l, ev, OrphansAllowed).Broken(), "closed and not yet shown")
	f("closed and never opened", []string{"P1"},
		func(_ *Ledger, ev *Evidence, d *Decision) { delete(ev.Opened, d.RequestID) })
	f("answered 202 and closed", []string{"I1"},
		func(l *Ledger, ev *Evidence, d *Decision) { l.posts[22].Status = http.StatusAccepted })
	f("orphan left open", []string{"I5"}, func(_ *Ledger, ev *Evidence, d *Decision) {
		ev.States[d.RequestID] = State{d.RequestID, trade.Pending, "T2", 9, ""}
		ev.Journal = ev.Journal[:len(ev.Journal)-1]
	})
	f("orphan left open that no answer named", []string{"I5"}, func(_ *Ledger, ev *Evidence, _ *Decision) {
		ev.Opened[trade.NewRequestID(sampleStart)] = true
	})
}

func TestVerdict(t *testing.T) {
	id := trade.NewRequestID(sampleStart)
	f := func(status int, id trade.RequestID, want Verdict) {
		t.Helper()
		require.Equal(t, want, (&Post{Status: status, RequestID: id}).Verdict(), "%d", status)
	}
	f(202, id, Accepted)
	f(400, trade.RequestID{}, Refused)
	f(413, trade.RequestID{}, Refused)
	f(429, trade.RequestID{}, Refused)
	f(503, trade.RequestID{}, Refused)
	f(503, id, Maybe)
	f(409, id, Maybe)
	f(500, trade.RequestID{}, Maybe)
	f(0, trade.RequestID{}, Maybe)
}
