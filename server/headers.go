package server

import (
	"bytes"
	"mime"
	"strings"

	"github.com/google/uuid"

	"tradestore/trade"
)

// head holds the header fields that the service uses. It is read from the raw bytes, because the parser drops or merges
// what matters here: Content-Length beside chunked coding, repeated fields, folded lines.
type head struct {
	fault           string // why the framing is refused; empty if it is good
	contentType     string
	contentTypes    int // how many Content-Type fields there are
	contentEncoding bool
	idempotencyKey  string // of the last such field
	idempotencyKeys int    // how many Idempotency-Key fields there are
	replayOf        string // of the last Trade-Replay-Of field
	replaysOf       int    // how many Trade-Replay-Of fields there are
	chunked         bool   // Transfer-Encoding is present
	correlationID   string
	wait            int    // seconds that the client prefers to wait (Prefer); 0: none
	lastEventID     string // Last-Event-ID
	waitSeen        bool   // a preference wait was present, valid or not
	traceParent     string
	accept          string // of all such fields, separated by commas
	ifNoneMatch     string // of all such fields, separated by commas
}

// readHead scans the header block once. Values are copied: they outlive the buffer (C7).
func readHead(raw []byte) head {
	var h head
	length := false
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte{'\n'})
		raw = rest
		if len(line) == 0 || line[len(line)-1] != '\r' {
			h.fault = "header lines end in CRLF"
			continue
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			h.fault = "folded header lines are not accepted"
			continue
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.Trim(value, " \t")
		switch {
		case is(name, "content-length"):
			length = true
		case is(name, "transfer-encoding"):
			h.chunked = true
		case is(name, "content-type"):
			h.contentTypes++
			h.contentType = string(value)
		case is(name, "content-encoding"):
			h.contentEncoding = true
		case is(name, "idempotency-key"):
			h.idempotencyKeys++
			h.idempotencyKey = string(value)
		case is(name, "trade-replay-of"):
			h.replaysOf++
			h.replayOf = string(value)
		case is(name, "x-correlation-id"):
			h.correlationID = correlation(value, h.correlationID)
		case is(name, "traceparent"):
			h.traceParent = traceParent(value)
		default:
			h.readPreference(name, value)
		}
	}
	if length && h.chunked {
		h.fault = "Content-Length and Transfer-Encoding exclude each other"
	}
	return h
}

// readPreference reads a field about the form of the answer.
func (h *head) readPreference(name, value []byte) {
	switch {
	case is(name, "accept"):
		h.accept = joined(h.accept, value)
	case is(name, "if-none-match"):
		h.ifNoneMatch = joined(h.ifNoneMatch, value)
	case is(name, "last-event-id"):
		h.lastEventID = string(value)
	case is(name, "prefer"):
		h.prefer(value)
	}
}

// joined appends the value of one more field to a list (RFC 9110, section 5.3).
func joined(list string, value []byte) string {
	if list == "" {
		return string(value)
	}
	return list + "," + string(value)
}

// is says whether a header name is the lower-case one given.
func is(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}

const maxCorrelation = 128 // bytes

// correlation returns value if it is valid: 1 to 128 visible ASCII bytes. The first valid one counts.
func correlation(value []byte, before string) string {
	if before != "" || len(value) < 1 || len(value) > maxCorrelation {
		return before
	}
	for _, c := range value {
		if c <= ' ' || c > '~' {
			return before
		}
	}
	return string(value)
}

// traceParent returns value if it is a valid W3C trace context, else nothing. The form is
// version-traceid-parentid-flags; versions after 00 may have more behind it.
func traceParent(value []byte) string {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(value) < length || len(value) > maxCorrelation {
		return ""
	}
	version, traceID, parentID, flags := value[:2], value[3:35], value[36:52], value[53:55]
	if value[2] != '-' || value[35] != '-' || value[52] != '-' ||
		!isHex(version) || !isHex(flags) || string(version) == "ff" {
		return ""
	}
	if !isHex(traceID) || !isHex(parentID) || allZero(traceID) || allZero(parentID) {
		return ""
	}
	if len(value) > length && (string(version) == "00" || value[length] != '-' || !isVisible(value)) {
		return ""
	}
	return string(value)
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isVisible(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "0")) == 0 }

// newCorrelationID makes an id for a call without one.
func newCorrelationID() string { return uuid.NewString() }

// isPlainJSON says whether Content-Type is JSON in UTF-8, once and without a coding.
func (h *head) isPlainJSON() bool { return h.isPlain(mediaJSON) }

// isPlain says whether Content-Type is the given type in UTF-8, once and without a coding.
func (h *head) isPlain(want string) bool {
	if h.contentTypes != 1 || h.contentEncoding {
		return false
	}
	if h.contentType == want {
		return true
	}
	media, params, err := mime.ParseMediaType(h.contentType)
	if err != nil || media != want {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// replayed returns the request that this one repeats, zero if the client names none. It is stored with the request
// (rule S4), and nothing is decided by it.
func (h *head) replayed() (id trade.RequestID, bad *problem) {
	if h.replaysOf == 0 {
		return id, nil
	}
	id, err := trade.ParseRequestID(h.replayOf)
	if err != nil || h.replaysOf > 1 {
		return id, &problem{code: InvalidReplayOf, detail: "send Trade-Replay-Of once: " + trade.ErrRequestID.Error()}
	}
	return id, nil
}
