package kafka

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"tradestore/trade"
)

const tracing = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func request() trade.Request {
	at := time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)
	return trade.Request{
		ID: trade.NewRequestID(at), AcceptedAt: at, BusinessDate: trade.DateOf(at), Partition: 3,
		CorrelationID: "corr-1", TraceParent: tracing, ReplayOf: trade.NewRequestID(at),
		Trade: trade.Trade{TradeID: "T-1", Version: 2, CounterpartyID: "CP-1", BookID: "B1",
			MaturityDate: trade.DateOf(at) + 1, CreatedDate: trade.DateOf(at) - 1},
	}
}

func set(rec *kgo.Record, name, value string) {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			rec.Headers[i].Value = []byte(value)
			return
		}
	}
	add(rec, name, value)
}

func add(rec *kgo.Record, name, value string) {
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
}

func remove(rec *kgo.Record, name string) {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			rec.Headers = append(rec.Headers[:i:i], rec.Headers[i+1:]...)
			return
		}
	}
}

// decode is Decode for a record whose format this build reads.
func decode(t assert.TestingT, rec *kgo.Record) trade.Record {
	got, err := Decode(rec)
	assert.NoError(t, err)
	return got
}

func TestRecordHasTheShapeOfTheContract(t *testing.T) {
	t.Parallel()
	r := request()
	rec := Encode("trades", &r)
	assert.Equal(t, "trades", rec.Topic)
	assert.Equal(t, int32(3), rec.Partition)
	assert.Equal(t, "T-1", string(rec.Key))
	assert.JSONEq(t, `{"trade_id":"T-1","version":2,"counterparty_id":"CP-1","book_id":"B1",
		"maturity_date":"2031-05-07","created_date":"2031-05-05"}`, string(rec.Value))
	got := map[string]string{}
	for _, h := range rec.Headers {
		got[h.Key] = string(h.Value)
	}
	assert.Equal(t, map[string]string{
		"request_id": r.ID.String(), "accepted_at": "2031-05-06T07:08:09.123456Z", "business_date": "2031-05-06",
		"schema":         "1",
		"correlation_id": "corr-1", "traceparent": tracing, "replay_of": r.ReplayOf.String(),
	}, got)
}

func TestDecodeReturnsWhatEncodeWasGiven(t *testing.T) {
	t.Parallel()
	day := rapid.Custom(func(t *rapid.T) trade.Date {
		return trade.Date(rapid.IntRange(-700_000, 2_900_000).Draw(t, "day"))
	})
	id := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`)
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 4_000_000_000_000_000).Draw(t, "at")).UTC()
		want := trade.Record{Offset: 9, Request: trade.Request{
			ID: trade.NewRequestID(at), AcceptedAt: at, BusinessDate: day.Draw(t, "business"), Partition: 5,
			CorrelationID: rapid.StringMatching(`[!-~]{0,128}`).Draw(t, "correlation"),
			Trade: trade.Trade{TradeID: id.Draw(t, "trade"), Version: rapid.Int32Range(1, 1<<31-1).Draw(t, "version"),
				CounterpartyID: id.Draw(t, "counterparty"), BookID: id.Draw(t, "book"), CreatedDate: day.Draw(t, "created")},
		}}
		want.Trade.MaturityDate = min(want.BusinessDate+trade.Date(rapid.IntRange(0, 1000).Draw(t, "term")), 2_900_000)
		if rapid.Bool().Draw(t, "traced") {
			want.TraceParent = tracing
		}
		if rapid.Bool().Draw(t, "replay") {
			want.ReplayOf = trade.NewRequestID(at)
		}
		rec := Encode("trades", &want.Request)
		rec.Offset = 9
		want.Value = rec.Value
		assert.Equal(t, want, decode(t, rec))
	})
}

func TestRecordSharesNoMemory(t *testing.T) {
	t.Parallel()
	buffer := []byte(`{"trade_id":"T-1","version":2,"counterparty_id":"CP-1","book_id":"B1",` +
		`"maturity_date":"2031-05-07","created_date":"2031-05-05"}`)
	r := request()
	var invalid *trade.Invalid
	r.Trade, invalid = trade.Decode(buffer)
	require.Nil(t, invalid)
	rec := Encode("trades", &r)
	value := bytes.Clone(rec.Value)
	clear(buffer)
	_ = append(rec.Key, "overwrite"...) // must not reach into the value behind it
	_ = append(rec.Value, "overwrite"...)
	assert.Equal(t, "T-1", string(rec.Key))
	assert.Equal(t, value, rec.Value)
	assert.Equal(t, r.ID.String(), string(rec.Headers[0].Value))
}

// Faults that leave someone to answer keep the id; those that make the id doubtful don't.
func TestFaultyRecords(t *testing.T) {
	t.Parallel()
	f := func(break_ func(*kgo.Record), answered bool, fault string) {
		t.Helper()
		r := request()
		rec := Encode("trades", &r)
		break_(rec)
		got := decode(t, rec)
		assert.Contains(t, got.Fault, fault)
		assert.NotEmpty(t, got.Fault)
		assert.Equal(t, answered, !got.ID.IsZero())
		assert.Equal(t, answered, !got.AcceptedAt.IsZero())
		assert.Equal(t, rec.Value, got.Value)
	}
	header := func(name, value string) func(*kgo.Record) { return func(r *kgo.Record) { set(r, name, value) } }
	without := func(name string) func(*kgo.Record) { return func(r *kgo.Record) { remove(r, name) } }
	twice := func(name string) func(*kgo.Record) { return func(r *kgo.Record) { add(r, name, "x") } }
	value := func(v string) func(*kgo.Record) { return func(r *kgo.Record) { r.Value = []byte(v) } }

	f(without(HeaderRequestID), false, "request_id")
	f(header(HeaderRequestID, ""), false, "request_id")
	f(header(HeaderRequestID, "019E7C1A-5B7E-7C40-9F4E-3A1F0C2D4B6A"), false, "request_id")
	f(header(HeaderRequestID, "019e7c1a-5b7e-4c40-9f4e-3a1f0c2d4b6a"), false, "request_id")
	f(without(HeaderAcceptedAt), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-07T07:08:09.123456Z"), false, "accepted_at") // not the day of the id
	f(header(HeaderAcceptedAt, "2031-05-06T07:08:09Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-06T07:08:09,123456Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-06T24:00:00.000000Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-06T00:60:00.000000Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-06T00:00:60.000000Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-02-30T00:00:00.000000Z"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "2031-05-06T07:08:09.12345xZ"), false, "accepted_at")
	f(header(HeaderAcceptedAt, "0000-05-06T07:08:09.123456Z"), false, "accepted_at")
	f(twice(HeaderRequestID), false, "more than once")
	f(twice(HeaderAcceptedAt), false, "more than once")
	f(twice(HeaderCorrelationID), false, "more than once")
	f(func(r *kgo.Record) { r.Headers = nil }, false, "request_id")

	f(without(HeaderSchema), true, "schema")
	for _, v := range []string{"", "0", "01", "+1", "-1", "1.0", " 1", "one", "1111111111"} {
		f(header(HeaderSchema, v), true, "the header schema is not a version")
	}
	f(without(HeaderBusinessDate), true, "business_date")
	f(header(HeaderBusinessDate, "2031-5-6"), true, "business_date")
	f(header(HeaderBusinessDate, "2031-05-08"), true, "MATURITY_IN_PAST")
	f(header(HeaderReplayOf, "me"), true, "replay_of")
	f(func(r *kgo.Record) { r.Key = []byte("T-2") }, true, "key")
	f(func(r *kgo.Record) { r.Key = nil }, true, "key")
	f(func(r *kgo.Record) { r.Value = nil }, true, "MALFORMED_JSON")
	f(value(""), true, "MALFORMED_JSON")
	f(value("null"), true, "MALFORMED_JSON")
	f(value("{}"), true, "INVALID_TRADE")
	f(value(strings.Repeat("[", 100_000)), true, "MALFORMED_JSON")
}

func TestFaultQuotesNothingAndIsBounded(t *testing.T) {
	t.Parallel()
	r := request()
	rec := Encode("trades", &r)
	var doc strings.Builder
	for i := range 100 {
		fmt.Fprintf(&doc, `,"evil%d\n":"evil"`, i)
	}
	rec.Value = []byte(`{"trade_id":"evil\u0000"` + doc.String() + "}")
	got := decode(t, rec)
	assert.NotContains(t, got.Fault, "evil")
	assert.LessOrEqual(t, len(got.Fault), maxFault)
	assert.Contains(t, got.Fault, "trade_id: ")
}

// A record of a release that writes another format is good: this build stops and names both versions. It never makes a
// dead letter of it.
func TestARecordOfAnotherFormatIsNoFault(t *testing.T) {
	t.Parallel()
	f := func(version, want string) {
		t.Helper()
		r := request()
		rec := Encode("trades", &r)
		set(rec, HeaderSchema, version)
		rec.Offset = 7
		got, err := Decode(rec)
		if want == "" {
			require.NoError(t, err)
			require.Empty(t, got.Fault)
			return
		}
		require.ErrorContains(t, err, "offset 7 of partition 3: "+want)
		require.Equal(t, trade.Broken, trade.ClassOf(err))
	}
	f(Schema, "")
	f("2", "its format has version 2, this build reads up to version 1: run a newer tradestore")
	f("10", "its format has version 10, this build reads up to version 1")
	f("999999999", "its format has version 999999999")

	reads := func(oldest, newest int, want ...bool) {
		t.Helper()
		for i, readable := range want {
			require.Equal(t, readable, checkSchema(i+1, oldest, newest) == nil, "version %d of %d to %d", i+1, oldest, newest)
		}
	}
	reads(1, 1, true, false)
	reads(1, 2, true, true, false)
	reads(2, 3, false, true, true, false)
	require.ErrorContains(t, checkSchema(1, 2, 3), "its format has version 1, this build reads version 2 and newer")
}

// What only decorates log lines is dropped when it is bad, the trade is stored.
func TestBadDecorationIsDropped(t *testing.T) {
	t.Parallel()
	f := func(name, value, want string) {
		t.Helper()
		r := request()
		rec := Encode("trades", &r)
		set(rec, name, value)
		got := decode(t, rec)
		assert.Empty(t, got.Fault)
		if name == HeaderCorrelationID {
			assert.Equal(t, want, got.CorrelationID)
			return
		}
		assert.Equal(t, want, got.TraceParent)
	}
	f(HeaderCorrelationID, strings.Repeat("x", 128), strings.Repeat("x", 128))
	f(HeaderCorrelationID, strings.Repeat("x", 129), "")
	f(HeaderCorrelationID, "line\nbreak", "")
	f(HeaderCorrelationID, "blank blank", "")
	f(HeaderCorrelationID, "käse", "")
	f(HeaderTraceParent, tracing, tracing)
	f(HeaderTraceParent, strings.ToUpper(tracing), "")
	f(HeaderTraceParent, tracing+"0", "")
	f(HeaderTraceParent, strings.Replace(tracing, "-", "_", 1), "")
	f("b3", "someone else's header", tracing)
}

func FuzzDecode(f *testing.F) {
	r := request()
	good := Encode("trades", &r)
	f.Add(good.Key, good.Value, r.ID.String(), "2031-05-06T07:08:09.123456Z", "2031-05-06", "1")
	f.Add([]byte("k"), []byte(`{"trade_id":"T"}`), "", "", "", "")
	f.Fuzz(func(t *testing.T, key, value []byte, id, at, day, schema string) {
		rec := &kgo.Record{Key: key, Value: value}
		set(rec, HeaderRequestID, id)
		set(rec, HeaderAcceptedAt, at)
		set(rec, HeaderBusinessDate, day)
		set(rec, HeaderSchema, schema)
		got := decode(t, rec)
		if got.Fault != "" {
			return
		}
		again := Encode("", &got.Request) // what is good survives the round trip
		assert.Equal(t, got.Request, decode(t, again).Request)
		assert.Equal(t, at, string(again.Headers[1].Value))
	})
}

func BenchmarkEncode(b *testing.B) {
	r := request()
	b.ReportAllocs()
	for b.Loop() {
		Encode("trades", &r)
	}
}

func BenchmarkDecode(b *testing.B) {
	r := request()
	rec := Encode("trades", &r)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Decode(rec)
	}
}
