package server

import (
	"slices"
	"strconv"
	"strings"

	"tradestore/trade"
)

const (
	defaultLimit = 100  // items on a page
	maxLimit     = 1000 // items on a page
	maxTradeID   = 64   // bytes
)

// Names of query parameters.
const (
	paramLimit        = "limit"
	paramTradeID      = "trade_id"
	paramCursor       = "cursor"
	paramPrefix       = "trade_id_prefix"
	paramCounterparty = "counterparty_id"
	paramBook         = "book_id"
	paramMaturityFrom = "maturity_from"
	paramMaturityTo   = "maturity_to"
	paramExpired      = "expired"
	paramLatest       = "latest"
	paramAsOf         = "as_of"
	paramPending      = "pending"
)

// filterParams are the parameters of a filter, in their order in the scope of a cursor.
var filterParams = []string{
	paramPrefix, paramCounterparty, paramBook, paramMaturityFrom, paramMaturityTo, paramExpired, paramLatest,
}

// query holds the parameters of a read by name. No value is empty.
type query map[string]string

// parseQuery parses a query string strictly: known names, each once. No valid value needs an escape, so escapes are
// decoded only in a time, whose colons many clients escape.
func parseQuery(raw []byte, known []string) (query, *problem) {
	if len(raw) == 0 {
		return nil, nil
	}
	if len(known) == 0 {
		return nil, &problem{code: InvalidQuery, detail: "no query parameters are accepted here"}
	}
	q := query{}
	for part := range strings.SplitSeq(string(raw), "&") {
		name, value, _ := strings.Cut(part, "=")
		if !slices.Contains(known, name) {
			return nil, &problem{code: InvalidQuery, detail: "a parameter is unknown; known: " + strings.Join(known, ", ")}
		}
		if q[name] != "" || value == "" {
			return nil, &problem{code: InvalidQuery, detail: name + ": give it once, with a value"}
		}
		if name == paramAsOf {
			value = strings.ReplaceAll(strings.ReplaceAll(value, "%3A", ":"), "%3a", ":")
		}
		q[name] = value
	}
	return q, nil
}

// limit returns how many items a page may have.
func (q query) limit() (int, *problem) {
	text, given := q[paramLimit]
	if !given {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit || strconv.Itoa(n) != text {
		return 0, &problem{code: InvalidQuery, detail: "limit: an integer, 1 to " + strconv.Itoa(maxLimit)}
	}
	return n, nil
}

// filter returns which trades to list. Expired means expired on the day today.
func (q query) filter(today trade.Date) (trade.Filter, *problem) {
	f := trade.AllTrades()
	f.Prefix, f.CounterpartyID, f.BookID = q[paramPrefix], q[paramCounterparty], q[paramBook]
	for _, name := range []string{paramPrefix, paramCounterparty, paramBook} {
		if id := q[name]; id != "" && !isTradeID(id) {
			const detail = ": 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
			return f, &problem{code: InvalidQuery, detail: name + detail}
		}
	}
	for name, into := range map[string]*trade.Date{paramMaturityFrom: &f.MaturityFrom, paramMaturityTo: &f.MaturityTo} {
		if text := q[name]; text != "" {
			day, ok := trade.ParseDate(text)
			if !ok {
				return f, &problem{code: InvalidQuery, detail: name + ": a day that exists, YYYY-MM-DD"}
			}
			*into = day
		}
	}
	if f.MaturityFrom > f.MaturityTo {
		return f, &problem{code: InvalidQuery, detail: "maturity_from: not after maturity_to"}
	}
	for _, name := range []string{paramExpired, paramLatest} {
		if text := q[name]; text != "" && text != "true" && text != "false" {
			return f, &problem{code: InvalidQuery, detail: name + ": true or false"}
		}
	}
	switch q[paramExpired] {
	case "true":
		f.MaturityTo = min(f.MaturityTo, today-1)
	case "false":
		f.MaturityFrom = max(f.MaturityFrom, today)
	}
	f.Latest = q[paramLatest] == "true"
	return f, nil
}

// scope returns the parameters of the filter, to which a cursor is bound, in one spelling.
func (q query) scope() string {
	var b strings.Builder
	for _, name := range filterParams {
		if value := q[name]; value != "" {
			b.WriteString("&" + name + "=" + value)
		}
	}
	return b.String()
}

// isTradeID says whether s is a valid trade id, as in the decoder.
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
