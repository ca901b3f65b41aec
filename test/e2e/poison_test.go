package e2e

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/trade"
)

// Records that no server would write, put straight into the topic among good ones: the partition moves on, and
// dead_letter holds exactly them.
func TestPoison(t *testing.T) { t.Parallel(); on(t, testPoison, onDev, onReal) }

func testPoison(t *testing.T, s *deployment) {
	t.Helper()
	s.start(t)
	poison := 0
	f := func(spoil func(*kgo.Record)) {
		t.Helper()
		rec := s.record(s.ledger.newTrade("POISON", 1), time.Now())
		spoil(rec)
		s.inject(t, rec)
		poison++
	}
	value := func(v string) { t.Helper(); f(func(r *kgo.Record) { r.Value = []byte(v) }) }
	edit := func(was, becomes string) {
		t.Helper()
		f(func(r *kgo.Record) {
			require.Contains(t, string(r.Value), was)
			r.Value = bytes.Replace(r.Value, []byte(was), []byte(becomes), 1)
		})
	}
	header := func(name, v string) {
		t.Helper()
		f(func(r *kgo.Record) { headerOf(r, name).Value = []byte(v) })
	}
	value("")
	value("null")
	value("[]")
	value("{")
	value("\x00\xff\xfe")
	value(strings.Repeat("x", 100_000))
	value(strings.Repeat("[", 50_000))
	f(func(r *kgo.Record) { r.Value = nil })
	edit(`"POISON"`, `"PO\u0000ISON"`)
	edit(`"POISON"`, `"OTHER"`) // not the key
	edit(`"POISON"`, "\"PO\xffISON\"")
	edit(`"version":1`, `"version":0`)
	edit(`"version":1`, `"version":2147483648`)
	edit(`"version":1`, `"version":1,"version":2`)
	edit(`2099-12-31`, `2099-02-30`)
	edit(`2099-12-31`, `1999-12-31`) // before the business date
	f(func(r *kgo.Record) { r.Key = nil })
	f(func(r *kgo.Record) { r.Headers = nil })
	f(func(r *kgo.Record) { r.Headers = append(r.Headers, *headerOf(r, kafka.HeaderRequestID)) })
	header(kafka.HeaderRequestID, "not-an-id")
	header(kafka.HeaderAcceptedAt, "yesterday")
	header(kafka.HeaderBusinessDate, "")
	header(kafka.HeaderSchema, "02")
	header(kafka.HeaderReplayOf, "x")

	good := s.stored(t, s.ledger.newTrade("POISON", 3))
	require.Equal(t, []Item{{DocumentOf(good.Trade), false}}, s.versions(t, "POISON"))
	ev := s.check(t)
	require.Len(t, ev.Letters, poison)
	s.stop(t)
}

func headerOf(r *kgo.Record, name string) *kgo.RecordHeader {
	at := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == name })
	if at < 0 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name})
		at = len(r.Headers) - 1
	}
	return &r.Headers[at]
}

// The log holds A, B and a late copy of A: the first decision stands, so B stays (A2). In one batch and across batches.
func TestDuplicates(t *testing.T) { t.Parallel(); on(t, testDuplicates, onDev, onDynamoDB) }

func testDuplicates(t *testing.T, s *deployment) {
	t.Helper()
	s.start(t)
	for _, id := range []string{"DUP-1", "DUP-2"} {
		a, b := s.record(s.ledger.newTrade(id, 1), time.Now()), s.record(s.ledger.newTrade(id, 1), time.Now())
		last, invalid := trade.Decode(b.Value)
		require.Nil(t, invalid)
		again := *a
		s.inject(t, a, b)
		if id == "DUP-1" {
			s.drained(t)
		}
		s.inject(t, &again)
		s.drained(t)
		require.Equal(t, []Item{{DocumentOf(last), false}}, s.versions(t, id))
	}
	s.check(t)
	s.stop(t)
}
