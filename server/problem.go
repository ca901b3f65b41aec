package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// Codes of problem documents, beside those of package trade.
const (
	MalformedHTTP           trade.Code = "MALFORMED_HTTP"            // the message is not valid, or is ambiguous
	InvalidPath             trade.Code = "INVALID_PATH"              // the path is not in its normal form
	InvalidRequestID        trade.Code = "INVALID_REQUEST_ID"        // the path has no valid request id
	InvalidTradeID          trade.Code = "INVALID_TRADE_ID"          // the path has no valid trade id
	InvalidQuery            trade.Code = "INVALID_QUERY"             // a parameter is unknown, repeated or out of range
	InvalidCursor           trade.Code = "INVALID_CURSOR"            // the cursor was not made by this service
	MalformedBatch          trade.Code = "MALFORMED_BATCH"           // the body is not one JSON array
	EmptyBatch              trade.Code = "EMPTY_BATCH"               // a bulk request without a trade
	TooManyItems            trade.Code = "TOO_MANY_ITEMS"            // more trades than BulkItems: none was decoded
	NotRetained             trade.Code = "NOT_RETAINED"              // as_of lies before outcome-retention
	TooManyExports          trade.Code = "TOO_MANY_EXPORTS"          // MaxExports are under way
	TooManyPastReads        trade.Code = "TOO_MANY_PAST_READS"       // MaxPastReads are under way
	UnexpectedBody          trade.Code = "UNEXPECTED_BODY"           // a read carries a body
	InvalidIdempotencyKey   trade.Code = "INVALID_IDEMPOTENCY_KEY"   // Idempotency-Key is not one key
	InvalidReplayOf         trade.Code = "INVALID_REPLAY_OF"         // Trade-Replay-Of is not one request id
	NotFound                trade.Code = "NOT_FOUND"                 // nothing is there
	RequestInProgress       trade.Code = "REQUEST_IN_PROGRESS"       // a request under the key is not decided: poll it
	IdempotencyKeyReused    trade.Code = "IDEMPOTENCY_KEY_REUSED"    // the key belongs to another payload; no effect
	IdempotencyKeyExhausted trade.Code = "IDEMPOTENCY_KEY_EXHAUSTED" // after IdempotencyAttempts; no effect
	MethodNotAllowed        trade.Code = "METHOD_NOT_ALLOWED"        // the Allow header lists the methods that are
	RequestTimeout          trade.Code = "REQUEST_TIMEOUT"           // the client took too long to send the request
	BodyTooLarge            trade.Code = "BODY_TOO_LARGE"            // setting max-body-bytes; of a bulk request BulkBytes
	UnsupportedMediaType    trade.Code = "UNSUPPORTED_MEDIA_TYPE"    // not plain JSON in UTF-8
	TooManyRequests         trade.Code = "TOO_MANY_REQUESTS"         // setting max-conns-per-addr
	HeadersTooLarge         trade.Code = "HEADERS_TOO_LARGE"         // more than MaxHeaderBytes
	Internal                trade.Code = "INTERNAL"                  // a bug; the effect of the call is unknown
	TooManyConnections      trade.Code = "TOO_MANY_CONNECTIONS"      // setting max-conns
	TooManyStreams          trade.Code = "TOO_MANY_STREAMS"          // MaxStreams are open
	QueueFull               trade.Code = "QUEUE_FULL"                // settings queue-items and queue-bytes; no effect
	DeadlineExceeded        trade.Code = "DEADLINE_EXCEEDED"         // setting accept-deadline; no effect
	NotReady                trade.Code = "NOT_READY"                 // schema and topic are not verified; no effect
	ShuttingDown            trade.Code = "SHUTTING_DOWN"             // the process ends; no effect
	RequestStoreUnavailable trade.Code = "REQUEST_STORE_UNAVAILABLE" // requests can't be tracked now; no effect
	LogUnavailable          trade.Code = "LOG_UNAVAILABLE"           // the partition takes no records now; no effect
	DeliveryUnknown         trade.Code = "DELIVERY_UNKNOWN"          // PENDING was sent: poll request_id
	StoreUnavailable        trade.Code = "STORE_UNAVAILABLE"         // a store can't answer a read now
)

// problemTypes maps each code to its HTTP answer. A code that is not here is a bug, and answered as a 500.
var problemTypes = map[trade.Code]struct {
	status int
	title  string
}{
	trade.StaleVersion:      {fasthttp.StatusBadRequest, "A higher version of the trade is stored"},
	trade.MaturityInPast:    {fasthttp.StatusBadRequest, "The trade has matured"},
	trade.InvalidTrade:      {fasthttp.StatusBadRequest, "The trade breaks a rule"},
	trade.MalformedJSON:     {fasthttp.StatusBadRequest, "The body is not one flat JSON object"},
	MalformedHTTP:           {fasthttp.StatusBadRequest, "The HTTP message is malformed"},
	InvalidPath:             {fasthttp.StatusBadRequest, "The path is not in its normal form"},
	InvalidRequestID:        {fasthttp.StatusBadRequest, "Not a request id"},
	InvalidTradeID:          {fasthttp.StatusBadRequest, "Not a trade id"},
	InvalidQuery:            {fasthttp.StatusBadRequest, "The query is not accepted"},
	InvalidCursor:           {fasthttp.StatusBadRequest, "The cursor is not accepted"},
	MalformedBatch:          {fasthttp.StatusBadRequest, "The body is not one JSON array"},
	EmptyBatch:              {fasthttp.StatusBadRequest, "The body holds no trade"},
	TooManyItems:            {fasthttp.StatusRequestEntityTooLarge, "The body holds too many trades"},
	NotRetained:             {fasthttp.StatusBadRequest, "The journal does not reach back that far"},
	TooManyExports:          {fasthttp.StatusServiceUnavailable, "Too many exports are under way"},
	TooManyPastReads:        {fasthttp.StatusServiceUnavailable, "Too many reads of the past are under way"},
	UnexpectedBody:          {fasthttp.StatusBadRequest, "A body is not accepted here"},
	InvalidIdempotencyKey:   {fasthttp.StatusBadRequest, "Not an idempotency key"},
	InvalidReplayOf:         {fasthttp.StatusBadRequest, "Not a request to replay"},
	RequestInProgress:       {fasthttp.StatusConflict, "A request under this key is under way"},
	IdempotencyKeyReused:    {fasthttp.StatusUnprocessableEntity, "The key belongs to another payload"},
	IdempotencyKeyExhausted: {fasthttp.StatusUnprocessableEntity, "The key was tried too often"},
	NotFound:                {fasthttp.StatusNotFound, "Not found"},
	MethodNotAllowed:        {fasthttp.StatusMethodNotAllowed, "Method not allowed"},
	RequestTimeout:          {fasthttp.StatusRequestTimeout, "The request took too long to arrive"},
	BodyTooLarge:            {fasthttp.StatusRequestEntityTooLarge, "The body is too large"},
	UnsupportedMediaType:    {fasthttp.StatusUnsupportedMediaType, "The media type is not supported"},
	TooManyRequests:         {fasthttp.StatusTooManyRequests, "Too many connections from one address"},
	HeadersTooLarge:         {fasthttp.StatusRequestHeaderFieldsTooLarge, "The headers are too large"},
	Internal:                {fasthttp.StatusInternalServerError, "Internal error"},
	TooManyConnections:      {fasthttp.StatusServiceUnavailable, "Too many connections"},
	TooManyStreams:          {fasthttp.StatusServiceUnavailable, "Too many streams are open"},
	QueueFull:               {fasthttp.StatusServiceUnavailable, "Too many requests are under way"},
	DeadlineExceeded:        {fasthttp.StatusServiceUnavailable, "The request waited too long"},
	NotReady:                {fasthttp.StatusServiceUnavailable, "The service is not ready"},
	ShuttingDown:            {fasthttp.StatusServiceUnavailable, "The service is shutting down"},
	RequestStoreUnavailable: {fasthttp.StatusServiceUnavailable, "The request can't be tracked now"},
	LogUnavailable:          {fasthttp.StatusServiceUnavailable, "The trade can't be logged now"},
	DeliveryUnknown:         {fasthttp.StatusServiceUnavailable, "It is not known yet whether the trade was taken"},
	StoreUnavailable:        {fasthttp.StatusServiceUnavailable, "The store can't answer now"},
}

const (
	problemMedia  = "application/problem+json"
	problemPrefix = "urn:tradestore:problem:" // of the member "type": a name, not an address
)

// problem is an answer that is not a success, as an RFC 9457 document.
type problem struct {
	code       trade.Code
	detail     string            // for people; never quotes input, unless that was validated
	violations []trade.Violation // becomes errors[]
	requestID  trade.RequestID   // only if PENDING was sent, by this call (unknown) or an earlier one: poll it
	retryAfter int               // seconds, from the rate of the queue; 0: see retry.go
	stored     trade.Stored      // STALE_VERSION only: what is stored instead, where known
}

// status returns the HTTP status of p.
func (p *problem) status() int {
	if kind, ok := problemTypes[p.code]; ok {
		return kind.status
	}
	return fasthttp.StatusInternalServerError
}

// append writes the document to dst.
func (p *problem) append(dst []byte, correlationID string) []byte {
	dst = append(dst, `{"type":"`+problemPrefix...)
	dst = append(dst, p.code...)
	dst = append(dst, `","title":`...)
	dst = appendString(dst, problemTypes[p.code].title)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(p.status()), 10)
	dst = append(dst, `,"detail":`...)
	dst = appendString(dst, p.detail)
	dst = append(dst, `,"code":"`...)
	dst = append(dst, p.code...)
	if !p.requestID.IsZero() {
		dst = append(dst, `","instance":"`+requestsPath...)
		dst = p.requestID.Append(dst)
		dst = append(dst, `","request_id":"`...)
		dst = p.requestID.Append(dst)
	}
	dst = append(dst, `","correlation_id":`...)
	dst = appendString(dst, correlationID)
	dst = appendStored(dst, p.stored)
	for i, v := range p.violations {
		if i == 0 {
			dst = append(dst, `,"errors":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"field":`...)
		dst = appendString(dst, v.Field)
		dst = append(dst, `,"code":"`...)
		dst = append(dst, v.Code...)
		dst = append(dst, `","detail":`...)
		dst = appendString(dst, v.Detail)
		dst = append(dst, '}')
	}
	if len(p.violations) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendString writes s as a JSON string. Plain ASCII is copied; anything else goes through encoding/json.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string can always be marshalled
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// ofInvalid returns the problem of a trade that can't be accepted.
func ofInvalid(bad *trade.Invalid) *problem {
	detail := "errors lists what is wrong"
	if len(bad.Violations) == 1 {
		detail = bad.Violations[0].Detail
		if field := bad.Violations[0].Field; field != "" {
			detail = field + ": " + detail
		}
	}
	return &problem{code: bad.Code, detail: detail, violations: bad.Violations}
}

// ofStore returns the problem of a read that failed.
func ofStore(err error, missing string) problem {
	if errors.Is(err, trade.ErrNotFound) {
		return problem{code: NotFound, detail: missing}
	}
	return problem{code: StoreUnavailable, detail: "repeat the request later"}
}

// ofWire returns the problem of a message that the HTTP parser could not read.
func ofWire(err error, cfg *Config) problem {
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return problem{code: BodyTooLarge, detail: "the setting max-body-bytes limits the body"}
	case errors.As(err, &small):
		detail := fmt.Sprintf("the first line and the headers are larger than %d bytes", cfg.MaxHeaderBytes)
		return problem{code: HeadersTooLarge, detail: detail}
	case errors.As(err, &timeout) && timeout.Timeout():
		return problem{code: RequestTimeout, detail: "the setting read-timeout limits the time to send a request"}
	}
	return problem{code: MalformedHTTP, detail: "the message does not follow HTTP/1.1"}
}
