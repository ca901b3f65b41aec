package kafka

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/trade"
)

// Decode reads a record of the log. Fault says what is wrong with a record, and quotes nothing of it. A
// faulty record keeps its ID if its request id and its time of acceptance are valid and have the same day, so that the
// request gets an outcome; otherwise the ID is zero. Value is the record's own memory, not a copy.
//
// Decode applies the rules of acceptance with the business date of the record. It reads no clock, so a record is judged
// the same whenever it is read.
//
// The only error has class Broken: another release wrote the record, in a version of the format that this build does
// not read. Such a record is good, so it must not end as a dead letter; a build that reads it applies it.
func Decode(rec *kgo.Record) (trade.Record, error) {
	r := trade.Record{Offset: rec.Offset, Value: rec.Value}
	r.Partition = rec.Partition
	h, repeated := readHeaders(rec.Headers)
	if version, ok := schemaVersion(h[schema]); ok && !repeated {
		if err := checkSchema(version, oldestSchema, newestSchema); err != nil {
			return r, trade.Classed(trade.Broken, "cannot read the record at offset %d of partition %d: %w",
				rec.Offset, rec.Partition, err)
		}
	}
	r.CorrelationID = correlationID(h[correlation])
	r.TraceParent = traceParent(h[traceparent])
	r.ID, r.AcceptedAt = identity(h)
	r.Trade, r.BusinessDate, r.Fault = content(rec, h)
	switch {
	case repeated: // it is not known which value is right, not even that of the request id
		r.ID, r.AcceptedAt = trade.RequestID{}, time.Time{}
		r.Fault = "a header is present more than once"
	case r.ID.IsZero():
		r.Fault = "the headers request_id and accepted_at are not a request id and its time of acceptance"
	case h[replayOf] != nil: // kept for a record with another fault, too: its dead letter names the replayed request
		var err error
		if r.ReplayOf, err = trade.ParseRequestID(h[replayOf]); err != nil && r.Fault == "" {
			r.Fault = "the header replay_of is not a request id"
		}
	}
	return r, nil
}

// checkSchema returns an error if the version is of a release that writes another format than this build reads, from
// oldest to newest.
func checkSchema(version, oldest, newest int) error {
	switch {
	case version < oldest:
		return fmt.Errorf("its format has version %d, this build reads version %d and newer: run an older tradestore",
			version, oldest)
	case version > newest:
		return fmt.Errorf("its format has version %d, this build reads up to version %d: run a newer tradestore",
			version, newest)
	}
	return nil
}

// schemaVersion returns the version of the format that the header names. Without one, or with a text that no release
// writes, ok is false.
func schemaVersion(header []byte) (version int, ok bool) {
	if len(header) == 0 || len(header) > maxSchemaDigits || header[0] == '0' {
		return 0, false
	}
	version = number(header)
	return version, version > 0
}

// identity returns the request that the headers name. The day of a UUIDv7 must be the day of accepted_at: with another
// day the same id would have a second journal key and could be decided twice.
func identity(h headers) (trade.RequestID, time.Time) {
	id, err := trade.ParseRequestID(h[requestID])
	at, ok := parseTime(h[acceptedAt])
	day, dated := id.Day()
	if err != nil || !ok || dated && day != trade.DateOf(at) {
		return trade.RequestID{}, time.Time{}
	}
	return id, at
}

// content returns the trade of a record and what is wrong with it. The trade is zero if it can't be read.
func content(rec *kgo.Record, h headers) (t trade.Trade, businessDate trade.Date, fault string) {
	if _, ok := schemaVersion(h[schema]); !ok { // Decode has compared the version
		return t, 0, "the header schema is not a version of the record format"
	}
	t, invalid := trade.Decode(rec.Value)
	if invalid != nil {
		return t, 0, faultOf(invalid)
	}
	businessDate, ok := trade.ParseDate(h[businessDay])
	if !ok {
		return t, 0, "the header business_date is not a day like 2031-12-31"
	}
	if invalid := t.Validate(businessDate); invalid != nil {
		return t, businessDate, faultOf(invalid)
	}
	if string(rec.Key) != t.TradeID {
		return t, businessDate, "the key is not the trade_id of the value"
	}
	return t, businessDate, ""
}

// faultOf is Invalid.Error without the names of unknown fields, because those are input.
func faultOf(invalid *trade.Invalid) string {
	var text strings.Builder
	text.WriteString(string(invalid.Code))
	for _, v := range invalid.Violations {
		text.WriteString("; ")
		if v.Field != "" && v.Code != trade.FieldUnknown {
			text.WriteString(v.Field + ": ")
		}
		text.WriteString(v.Detail)
		if text.Len() > maxFault {
			return text.String()[:maxFault] // all texts are ASCII
		}
	}
	return text.String()
}

// headers holds the values of the known headers, by the constants below. nil means absent.
type headers [headerCount][]byte

const (
	requestID = iota
	acceptedAt
	businessDay
	schema
	correlation
	traceparent
	replayOf
	headerCount
)

// readHeaders returns the known headers. Others are skipped, because proxies and tracers may add their own.
func readHeaders(in []kgo.RecordHeader) (h headers, repeated bool) {
	for i := range in {
		var at int
		switch in[i].Key {
		case HeaderRequestID:
			at = requestID
		case HeaderAcceptedAt:
			at = acceptedAt
		case HeaderBusinessDate:
			at = businessDay
		case HeaderSchema:
			at = schema
		case HeaderCorrelationID:
			at = correlation
		case HeaderTraceParent:
			at = traceparent
		case HeaderReplayOf:
			at = replayOf
		default:
			continue
		}
		repeated = repeated || h[at] != nil
		h[at] = in[i].Value
		if h[at] == nil {
			h[at] = []byte{} // present, with a null value
		}
	}
	return h, repeated
}

// parseTime accepts exactly timeLayout. time.Parse would also accept a comma and other lengths of the fraction.
func parseTime(b []byte) (time.Time, bool) {
	if len(b) != len(timeLayout) || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != '.' || b[26] != 'Z' {
		return time.Time{}, false
	}
	day, ok := trade.ParseDate(b[:10])
	hour, min, sec, micro := number(b[11:13]), number(b[14:16]), number(b[17:19]), number(b[20:26])
	if !ok || hour < 0 || hour > 23 || min < 0 || min > 59 || sec < 0 || sec > 59 || micro < 0 {
		return time.Time{}, false
	}
	seconds := hour*3600 + min*60 + sec
	return day.Time().Add(time.Duration(seconds)*time.Second + time.Duration(micro)*time.Microsecond), true
}

// number parses ASCII digits. It returns -1 for anything else.
func number(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// correlationID returns b if it is 1 to 128 visible ASCII bytes, else an empty string: the id is used in log lines
// only.
func correlationID(b []byte) string {
	if len(b) > maxCorrelation {
		return ""
	}
	for _, c := range b {
		if c < '!' || c > '~' {
			return ""
		}
	}
	return string(b)
}

// traceParent returns b if it has the format of a version 00 traceparent, else an empty string.
func traceParent(b []byte) string {
	const shape = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx"
	if len(b) != len(shape) {
		return ""
	}
	for i, c := range b {
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if shape[i] == 'x' && !hex || shape[i] != 'x' && shape[i] != c {
			return ""
		}
	}
	return string(b)
}
