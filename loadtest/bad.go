package loadtest

import (
	"net/http"
	"strings"

	"tradestore/trade"
)

// badBody is a POST that is always refused. Its body contains the id of the operation at idMark, so Reconcile finds the
// trade if it is stored by mistake.
type badBody struct {
	before, after string // of the trade id
	contentType   string
	status        []int
	code          trade.Code
}

const (
	contentJSON = "application/json"
	idMark      = "$ID"
	validTrade  = `{"trade_id":"$ID","version":10,"counterparty_id":"CP-1","book_id":"RATES-EUR-01",` +
		`"maturity_date":"2090-12-29","created_date":"2026-01-05"}`
	tooLarge = 17 << 10 // bytes: more than a server takes by default
)

// Problem codes of bad bodies and reads, from the API guide.
const (
	bodyTooLarge         trade.Code = "BODY_TOO_LARGE"
	unsupportedMediaType trade.Code = "UNSUPPORTED_MEDIA_TYPE"
	notFound             trade.Code = "NOT_FOUND"
)

// badBodies has one body for each mistake that the API guide names.
var badBodies = func() (all []badBody) {
	add := func(status int, code trade.Code, contentType, body string) {
		before, after, _ := strings.Cut(body, idMark)
		all = append(all, badBody{before, after, contentType, []int{status}, code})
	}
	malformed := func(body string) { add(http.StatusBadRequest, trade.MalformedJSON, contentJSON, body) }
	invalid := func(old, instead string) {
		add(http.StatusBadRequest, trade.InvalidTrade, contentJSON, strings.Replace(validTrade, old, instead, 1))
	}
	malformed(strings.TrimSuffix(validTrade, "}"))
	malformed("[" + validTrade + "]")
	malformed(validTrade + validTrade)
	malformed(strings.Replace(validTrade, `"CP-1"`, `{"id":"CP-1"}`, 1))
	invalid(`"book_id":"RATES-EUR-01",`, ``)               // missing
	invalid(`"RATES-EUR-01"`, `null`)                      // as good as missing
	invalid(`"book_id"`, `"Book_ID"`)                      // case matters
	invalid(`"version":10`, `"version":10,"price":100.25`) // not a field
	invalid(`"version":10`, `"version":10,"version":11`)   // twice
	invalid(`"version":10`, `"version":"10"`)              // a string
	invalid(`"version":10`, `"version":0`)                 // out of range
	invalid(`"version":10`, `"version":1e1`)               // no integer
	invalid(`"version":10`, `"version":2147483648`)        // more than 31 bits
	invalid(`"CP-1"`, `"CP 1"`)                            // a byte that no id has
	invalid(`"CP-1"`, `"`+strings.Repeat("C", 65)+`"`)     // too long
	invalid(`"2090-12-29"`, `"2090-02-29"`)                // no such day
	invalid(`"2026-01-05"`, `"05.01.2026"`)                // another form
	add(http.StatusUnsupportedMediaType, unsupportedMediaType, "text/plain", validTrade)
	add(http.StatusRequestEntityTooLarge, bodyTooLarge, contentJSON, validTrade+strings.Repeat(" ", tooLarge))
	return all
}()
