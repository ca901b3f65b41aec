package server

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strconv"
	"strings"

	"tradestore/trade"
)

const (
	defaultLimit = 100  // trades on a page
	maxLimit     = 1000 // trades on a page
	maxCursor    = 512  // bytes of a cursor in a query
	maxTradeID   = 64   // bytes
)

// query holds the parameters of a read; a parameter that was not given is empty.
type query struct{ limit, cursor string }

// parseQuery reads a query string strictly: known names, each once. No value that is accepted needs an escape, so none
// is decoded.
func parseQuery(raw []byte) (query, *problem) {
	var q query
	if len(raw) == 0 {
		return q, nil
	}
	for part := range strings.SplitSeq(string(raw), "&") {
		name, value, _ := strings.Cut(part, "=")
		var into *string
		switch name {
		case "limit":
			into = &q.limit
		case "cursor":
			into = &q.cursor
		default:
			return q, &problem{code: InvalidQuery, detail: "a parameter is unknown; known: limit, cursor"}
		}
		if *into != "" || value == "" {
			return q, &problem{code: InvalidQuery, detail: name + ": give it once, with a value"}
		}
		*into = value
	}
	return q, nil
}

// page reads the parameters of a list.
func (q query) page() (limit int, after trade.Key, bad *problem) {
	limit = defaultLimit
	if q.limit != "" {
		n, err := strconv.Atoi(q.limit)
		if err != nil || n < 1 || n > maxLimit || strconv.Itoa(n) != q.limit {
			return 0, after, &problem{code: InvalidQuery, detail: "limit: an integer, 1 to " + strconv.Itoa(maxLimit)}
		}
		limit = n
	}
	if q.cursor != "" {
		key, err := parseCursor(q.cursor)
		if err != nil {
			return 0, after, &problem{code: InvalidCursor, detail: "cursor: pass next_cursor of an earlier answer unchanged"}
		}
		after = key
	}
	return limit, after, nil
}

// A cursor is the key of the last item of a page: form, version, trade id and a checksum, in base64url. The checksum
// finds cursors that were cut or edited. It is no secret: a cursor opens nothing that a list does not.
const (
	cursorForm = 1          // first byte; another one when the order of the list changes
	cursorHead = 1 + 4      // form, version
	cursorTail = crc32.Size // checksum of all before it
)

var (
	cursorTable    = crc32.MakeTable(crc32.Castagnoli)
	cursorEncoding = base64.RawURLEncoding.Strict()
	errCursor      = errors.New("not a cursor")
)

// appendCursor writes the cursor of key to dst.
func appendCursor(dst []byte, key trade.Key) []byte {
	var room [cursorHead + maxTradeID + cursorTail]byte
	raw := append(room[:0], cursorForm)
	raw = binary.BigEndian.AppendUint32(raw, uint32(key.Version))
	raw = append(raw, key.TradeID...)
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, cursorTable))
	return cursorEncoding.AppendEncode(dst, raw)
}

// parseCursor reads what appendCursor wrote, and nothing else.
func parseCursor(s string) (trade.Key, error) {
	if len(s) > maxCursor {
		return trade.Key{}, errCursor
	}
	raw, err := cursorEncoding.DecodeString(s)
	if err != nil || len(raw) < cursorHead+cursorTail || raw[0] != cursorForm {
		return trade.Key{}, errCursor
	}
	body, sum := raw[:len(raw)-cursorTail], raw[len(raw)-cursorTail:]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, cursorTable) {
		return trade.Key{}, errCursor
	}
	key := trade.Key{TradeID: string(body[cursorHead:]), Version: int32(binary.BigEndian.Uint32(body[1:]))}
	if !isTradeID(key.TradeID) || key.Version < 1 {
		return trade.Key{}, errCursor
	}
	return key, nil
}

// isTradeID says whether s can be the id of a trade: what the decoder accepts.
func isTradeID(s string) bool {
	if len(s) < 1 || len(s) > maxTradeID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}
