package trade

import "time"

// Status is the state of a request. A terminal status never changes (rule S1).
type Status string

// The states of a request. PENDING is the only one that is not terminal.
const (
	Pending Status = "PENDING"
	Success Status = "SUCCESS"
	Failed  Status = "FAILED"
)

// Terminal says whether s is final.
func (s Status) Terminal() bool { return s == Success || s == Failed }

// Request is one accepted submission: a trade and what the server set when it accepted it. All of it is in the log
// record, so that every copy of a request carries the same facts.
type Request struct {
	ID            RequestID
	Trade         Trade
	AcceptedAt    time.Time // UTC, whole microseconds: what PostgreSQL can hold
	BusinessDate  Date      // "today" for this request, wherever and whenever it is checked (rule C8)
	Partition     int32     // of the topic, from the trade id
	CorrelationID string    // of the HTTP call; at most 128 visible ASCII bytes
	TraceParent   string    // W3C Trace Context; empty when there is none
	ReplayOf      RequestID // the request that this one repeats; zero for an ordinary one
}

// AcceptedOn returns the UTC day of acceptance. With the id it is the key of the request in every store.
func (r *Request) AcceptedOn() Date { return DateOf(r.AcceptedAt) }

// RequestState is what a client sees of a request.
type RequestState struct {
	ID         RequestID
	Status     Status
	TradeID    string // empty for a record that could not be read
	Version    int32  // 0 for a record that could not be read
	Reason     Code   // empty unless Status is FAILED
	Detail     string // for people; empty unless Status is FAILED
	AcceptedAt time.Time
	DecidedAt  time.Time // zero while PENDING
}

// NoOffset stands for the offset of a request that was closed without a record.
const NoOffset = -1

// Decision is a decided request: a row of the journal.
type Decision struct {
	RequestState
	Generation int32 // of the topic: 1, 2, ... each time the topic was replaced
	Partition  int32
	Offset     int64 // of its record; NoOffset when it was closed without one
	// CorrelationID and TraceParent of the accepting call, for log lines and traces of the projector.
	CorrelationID string
	TraceParent   string
}

// AcceptedOn returns the UTC day of acceptance.
func (s *RequestState) AcceptedOn() Date { return DateOf(s.AcceptedAt) }

// PendingRequest is a request that may have been left PENDING by a record that never reached the log.
type PendingRequest struct {
	ID            RequestID
	AcceptedAt    time.Time
	Partition     int32 // of the topic: where its record is, if there is one
	TradeID       string
	Version       int32
	CorrelationID string
	TraceParent   string
}
