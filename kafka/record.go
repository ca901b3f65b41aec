package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/trade"
)

// Versions of the record format, as the header schema has them. A build reads the version that it writes and the one
// before, which may still be in the log. A new version is read by one release and written by the next: servers of a
// release can then run beside workers of the one before, and those can start again (see docs/design.md, Upgrades).
const (
	Schema       = "1" // that this build writes
	oldestSchema = 1   // that it reads
	newestSchema = 1   // that it reads
)

// Names of the record headers. All values are text.
const (
	HeaderRequestID     = "request_id"     // lower-case canonical UUID
	HeaderAcceptedAt    = "accepted_at"    // RFC 3339 in UTC with microseconds (timeLayout)
	HeaderBusinessDate  = "business_date"  // YYYY-MM-DD; the maturity is compared with it (rule C8)
	HeaderSchema        = "schema"         // version of the format: digits
	HeaderCorrelationID = "correlation_id" // of the HTTP call; absent when empty
	HeaderTraceParent   = "traceparent"    // W3C Trace Context; absent when empty
	HeaderReplayOf      = "replay_of"      // id of the request that this one replays; absent if it is no replay
)

const (
	timeLayout      = "2006-01-02T15:04:05.000000Z"
	maxCorrelation  = 128 // bytes
	maxFault        = 512 // bytes; the text is stored with the outcome and shown to the client
	maxSchemaDigits = 9   // of a version of the format
	valueSize       = 256 // bytes that a typical value needs; the buffer grows for a longer one
)

// Encode returns the record of a request, for the partition that the request names. The record shares no memory with
// the request, so it may outlive the buffers that the request was decoded from (rule C7).
func Encode(topic string, r *trade.Request) *kgo.Record {
	// One buffer holds key, value and header values. Each part has its length as capacity: append never overwrites
	// another.
	buf := make([]byte, 0, len(r.Trade.TradeID)+len(r.CorrelationID)+len(r.TraceParent)+valueSize+128)
	from := 0
	cut := func() []byte {
		part := buf[from:len(buf):len(buf)]
		from = len(buf)
		return part
	}
	alloc := &struct { // one allocation for both
		record  kgo.Record
		headers [7]kgo.RecordHeader
	}{}
	rec := &alloc.record
	rec.Topic, rec.Partition, rec.Headers = topic, r.Partition, alloc.headers[:0]
	header := func(name string) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: cut()})
	}
	buf = append(buf, r.Trade.TradeID...)
	rec.Key = cut()
	buf = trade.AppendJSON(buf, &r.Trade)
	rec.Value = cut()
	buf = r.ID.Append(buf)
	header(HeaderRequestID)
	buf = r.AcceptedAt.UTC().AppendFormat(buf, timeLayout)
	header(HeaderAcceptedAt)
	buf = r.BusinessDate.Append(buf)
	header(HeaderBusinessDate)
	buf = append(buf, Schema...)
	header(HeaderSchema)
	if r.CorrelationID != "" {
		buf = append(buf, r.CorrelationID...)
		header(HeaderCorrelationID)
	}
	if r.TraceParent != "" {
		buf = append(buf, r.TraceParent...)
		header(HeaderTraceParent)
	}
	if !r.ReplayOf.IsZero() {
		buf = r.ReplayOf.Append(buf)
		header(HeaderReplayOf)
	}
	return rec
}
