// Package trade is the domain: what a trade is, which trades are accepted, and how a log of trades is decided.
// Everything here is a pure function of its arguments: there is no clock, no I/O, and nothing about HTTP, Kafka or SQL.
package trade

import (
	"cmp"
	"strings"
)

// Key identifies one stored row: a trade in one of its versions.
type Key struct {
	TradeID string
	Version int32
}

// Compare orders keys by trade id in byte order, then by version: negative when k comes before o. Writers that take row
// locks sort by it, so that two of them never wait for each other in a circle.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.TradeID, o.TradeID); c != 0 {
		return c
	}
	return cmp.Compare(k.Version, o.Version)
}

// Less says whether k comes before o.
func (k Key) Less(o Key) bool { return k.Compare(o) < 0 }

// Trade is what a client submits. Identifiers are 1 to 64 bytes of [A-Za-z0-9._-], starting with a letter or digit;
// Version is 1 to 2147483647; dates are UTC calendar days.
type Trade struct {
	TradeID        string
	Version        int32
	CounterpartyID string
	BookID         string
	MaturityDate   Date
	CreatedDate    Date
}

// Key returns the identity under which t is stored.
func (t *Trade) Key() Key { return Key{t.TradeID, t.Version} }

// Expired says whether t has matured before the day today. It is computed when a trade is read and never stored.
func (t *Trade) Expired(today Date) bool { return t.MaturityDate < today }
