package trade

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// RequestID identifies one submission. It is a UUIDv7 (RFC 9562, section 5.7), so that ids made at about the same time
// are close together in an index, or a UUIDv8 when derived from an idempotency key. The zero value means "no id".
type RequestID [16]byte

// ErrRequestID is returned for text that is not a lower-case canonical UUID of version 7 or 8.
var ErrRequestID = errors.New("a request id is a lower-case canonical UUID, like 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a")

// NewRequestID makes a UUIDv7 for the instant now. The 12 bits after the millisecond carry its fraction (RFC 9562,
// section 6.2, method 3), the remaining 62 are random.
func NewRequestID(now time.Time) RequestID {
	var id RequestID
	micros := now.UnixMicro()
	binary.BigEndian.PutUint64(id[:8], uint64(micros/1000)<<16)
	fraction := uint16(micros % 1000 * 4096 / 1000)
	_, _ = rand.Read(id[8:]) // never fails: crypto/rand ends the process instead
	id[6] = 0x70 | byte(fraction>>8)
	id[7] = byte(fraction)
	id[8] = id[8]&0x3f | 0x80
	return id
}

// IsZero says whether id is the "no id" value.
func (id RequestID) IsZero() bool { return id == RequestID{} }

// Day returns the UTC day of acceptance that a version 7 id carries; ok is false for any other version.
func (id RequestID) Day() (day Date, ok bool) {
	if id[6]>>4 != 7 {
		return 0, false
	}
	return DateOf(time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))), true
}

// ParseRequestID reads the canonical lower-case form. Errors: ErrRequestID.
func ParseRequestID[T string | []byte](s T) (RequestID, error) {
	var id RequestID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, ErrRequestID
	}
	var digits [32]byte
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
			digits[n] = c
			n++
		default:
			return RequestID{}, ErrRequestID
		}
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return RequestID{}, ErrRequestID
	}
	if v := id[6] >> 4; v != 7 && v != 8 || id[8]>>6 != 2 {
		return RequestID{}, ErrRequestID
	}
	return id, nil
}

// Append writes the canonical form of id to dst.
func (id RequestID) Append(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// String returns the canonical form of id.
func (id RequestID) String() string { return string(id.Append(make([]byte, 0, 36))) }
