package trade

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// MaxIdempotencyKey is the length of the longest key, in bytes, quotes and escapes not counted.
const MaxIdempotencyKey = 255

// IdempotencyKey is the client's name for one submission, however often it sends it: 1 to 255 visible ASCII bytes.
type IdempotencyKey string

// ErrIdempotencyKey is returned for text that is not a key.
var ErrIdempotencyKey = errors.New(
	"an idempotency key is 1 to 255 visible ASCII characters, bare or as a quoted string")

// ParseIdempotencyKey reads the value of an Idempotency-Key header, bare or as a string of RFC 9651, section 3.3.3.
// Both spellings are the same key: when a client library starts to quote, a repeat must not become a second trade.
// Errors: ErrIdempotencyKey.
func ParseIdempotencyKey(s string) (IdempotencyKey, error) {
	if len(s) > 0 && s[0] == '"' {
		var ok bool
		if s, ok = unquote(s); !ok {
			return "", ErrIdempotencyKey
		}
	}
	if len(s) < 1 || len(s) > MaxIdempotencyKey {
		return "", ErrIdempotencyKey
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", ErrIdempotencyKey
		}
	}
	return IdempotencyKey(s), nil
}

// unquote returns the text between the quotes. Only a quote and a backslash can be escaped, and both must be.
func unquote(s string) (string, bool) {
	plain := make([]byte, 0, len(s))
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return string(plain), i == len(s)-1
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			plain = append(plain, s[i])
		default:
			plain = append(plain, c)
		}
	}
	return "", false // no quote at the end
}

// keyedDomain separates these hashes from every other use of the hash function.
const keyedDomain = "tradestore request id 1"

// DeriveRequestID returns the request id of an attempt under a key: a UUIDv8 (RFC 9562, section 5.8) of a SHA-256 over
// (principal, key, attempt), so every server derives the same one (rule K1). Attempts count from 0.
func DeriveRequestID(principal string, key IdempotencyKey, attempt int) RequestID {
	h := sha256.New()
	for _, part := range []string{keyedDomain, principal, string(key)} { // with lengths: no two triples read the same
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = h.Write([]byte(part))
	}
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(attempt)))
	id := RequestID(h.Sum(nil)[:len(RequestID{})])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// PayloadHash distinguishes two submissions under one key. It covers the values of the fields, not their JSON spelling.
type PayloadHash [sha256.Size]byte

// HashPayload returns the hash of the fields of a valid trade.
func HashPayload(t *Trade) PayloadHash { return sha256.Sum256(AppendJSON(make([]byte, 0, 512), t)) }

// Nonce identifies one call that opens a request under a key, so that a repeat of the call recognises its own entry.
type Nonce [16]byte

// NewNonce makes a random nonce.
func NewNonce() Nonce {
	var n Nonce
	_, _ = rand.Read(n[:]) // never fails: crypto/rand ends the process instead
	return n
}

// KeyedRequest is a request whose id was derived from an idempotency key, with the further fields of its entry.
type KeyedRequest struct {
	*Request
	Hash  PayloadHash
	Nonce Nonce
}

// KeyedState is the state of a request under a key.
type KeyedState struct {
	Status Status
	Reason Code // empty unless Status is FAILED
	Hash   PayloadHash
}

// ErrKeyTaken marks the error of a keyed request that was not opened because an entry of its id exists.
var ErrKeyTaken = errors.New("the idempotency key is taken")
