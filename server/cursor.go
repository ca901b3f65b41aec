package server

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"tradestore/trade"
)

// A cursor says where a page ended: form, checksum of the scope, position, and a checksum of all that, in base64url.
// The form says what the position means. The scope is the filter or trade, so that a cursor works with no other. The
// checksums find cursors that were cut, edited or mixed up. They are not a secret: a cursor gives no access that its
// list does not.
const (
	cursorOfTrades   = 2 // position: the key of the last row that was looked at: version, trade id
	cursorOfEvents   = 4 // position: the next row of the journal: generation, partition, offset
	cursorOfVersions = 5 // position: the last version that was looked at
	cursorOfHistory  = 6 // position: the last submission: generation, partition, offset, request id

	maxCursor  = 512            // bytes of a cursor in a query
	cursorHead = 1 + crc32.Size // form, scope
	cursorTail = crc32.Size
)

var (
	cursorTable    = crc32.MakeTable(crc32.Castagnoli)
	cursorEncoding = base64.RawURLEncoding.Strict()
	errCursor      = errors.New("not a cursor of this list")
	badCursor      = problem{code: InvalidCursor, detail: "cursor: pass next_cursor of an earlier answer unchanged, " +
		"with the same other parameters; limit may change"}
)

// appendCursor writes a cursor to dst.
func appendCursor(dst []byte, form byte, scope string, position []byte) []byte {
	raw := append(make([]byte, 0, cursorHead+len(position)+cursorTail), form)
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum([]byte(scope), cursorTable))
	raw = append(raw, position...)
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, cursorTable))
	return cursorEncoding.AppendEncode(dst, raw)
}

// parseCursor returns the position in what appendCursor wrote for the same form and scope. Anything else is errCursor.
func parseCursor(s string, form byte, scope string) (position []byte, err error) {
	if len(s) > maxCursor {
		return nil, errCursor
	}
	raw, err := cursorEncoding.DecodeString(s)
	if err != nil || len(raw) < cursorHead+cursorTail || raw[0] != form {
		return nil, errCursor
	}
	body, sum := raw[:len(raw)-cursorTail], raw[len(raw)-cursorTail:]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, cursorTable) ||
		binary.BigEndian.Uint32(body[1:]) != crc32.Checksum([]byte(scope), cursorTable) {
		return nil, errCursor
	}
	return body[cursorHead:], nil
}

// appendTradeCursor writes the cursor behind key in a list of trades.
func appendTradeCursor(dst []byte, scope string, key trade.Key) []byte {
	var room [4 + maxTradeID]byte
	position := binary.BigEndian.AppendUint32(room[:0], uint32(key.Version))
	return appendCursor(dst, cursorOfTrades, scope, append(position, key.TradeID...))
}

// parseTradeCursor parses what appendTradeCursor wrote, and nothing else.
func parseTradeCursor(s, scope string) (trade.Key, error) {
	position, err := parseCursor(s, cursorOfTrades, scope)
	if err != nil || len(position) < 4 {
		return trade.Key{}, errCursor
	}
	key := trade.Key{TradeID: string(position[4:]), Version: int32(binary.BigEndian.Uint32(position))}
	if !isTradeID(key.TradeID) || key.Version < 1 {
		return trade.Key{}, errCursor
	}
	return key, nil
}

// appendVersionCursor writes the cursor behind a version in a list of the versions of a trade.
func appendVersionCursor(dst []byte, scope string, version int32) []byte {
	return appendCursor(dst, cursorOfVersions, scope, binary.BigEndian.AppendUint32(nil, uint32(version)))
}

// parseVersionCursor parses what appendVersionCursor wrote, and nothing else.
func parseVersionCursor(s, scope string) (version int32, err error) {
	position, err := parseCursor(s, cursorOfVersions, scope)
	if err != nil || len(position) != 4 {
		return 0, errCursor
	}
	if version = int32(binary.BigEndian.Uint32(position)); version < 1 {
		return 0, errCursor
	}
	return version, nil
}
