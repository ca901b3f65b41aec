package trade

import (
	"fmt"

	"github.com/goccy/go-json"
)

// maxViolations bounds what is reported about one document, and so the memory that a hostile one takes.
const maxViolations = 16

const (
	maxIDLen   = 64        // bytes
	maxVersion = 1<<31 - 1 // what a PostgreSQL integer holds
	maxNameLen = 64        // bytes of an unknown field's name that are echoed
)

// What each kind of field accepts, for people.
const (
	idRule = "a string of 1 to 64 letters, digits, dots, underscores and hyphens, " +
		"the first a letter or digit (all ASCII)"
	versionRule = "an integer from 1 to 2147483647, written without sign, point, exponent or leading zero"
	dateRule    = "a string like 2031-12-31, YYYY-MM-DD: a day that exists, in the years 0001 to 9999"
	unknownRule = "not a field of a trade; the fields are trade_id, version, counterparty_id, book_id, maturity_date " +
		"and created_date, in lower case"
)

type field uint8

// The fields, in the order in which missing ones are reported and records are written.
const (
	tradeIDField field = iota
	versionField
	counterpartyIDField
	bookIDField
	maturityDateField
	createdDateField
	fieldCount // also stands for "no field of a trade"
)

var fields = [fieldCount]struct{ name, rule string }{
	{"trade_id", idRule},
	{"version", versionRule},
	{"counterparty_id", idRule},
	{"book_id", idRule},
	{"maturity_date", dateRule},
	{"created_date", dateRule},
}

// Decode reads a trade from doc, which must be one flat JSON object with each of the six fields once and nothing else.
// It checks every rule but the comparison of dates with today (see Validate). The trade is good if the *Invalid is
// nil. Otherwise it is the zero Trade, and Invalid has the violations of all fields, those of present fields in
// document order, then the missing ones, at most 16 in all. Of a document that is not such an object, Invalid has the
// first fault only (MALFORMED_JSON), with the offset of the byte, counted from 0.
//
// doc may be reused after return: nothing of it is kept. Why the result is not an error, see Invalid.
func Decode(doc []byte) (Trade, *Invalid) {
	d := decoder{}
	s := scanner{doc: doc}
	for s.next() {
		d.member(&s.name, &s.value)
	}
	if s.fault != "" {
		return Trade{}, &Invalid{MalformedJSON, []Violation{{
			Code: FieldFormat, Detail: fmt.Sprintf("at byte %d (the first is 0): %s", s.at, s.fault),
		}}}
	}
	for f := range fields {
		if !d.seen[f] {
			d.refuse(field(f), FieldRequired)
		}
	}
	if d.violations != nil {
		return Trade{}, &Invalid{InvalidTrade, d.violations}
	}
	return d.trade, nil
}

// decoder collects the fields of one document and their violations.
type decoder struct {
	trade      Trade
	seen       [fieldCount]bool
	violations []Violation
}

// member stores one member. The first of a name counts, so that a second one can't repair or hide it.
func (d *decoder) member(name, value *token) {
	f := fieldNamed(name)
	switch {
	case f == fieldCount:
		d.report(Violation{printableName(name), FieldUnknown, unknownRule})
	case d.seen[f]:
		d.report(Violation{fields[f].name, FieldDuplicate, "present more than once"})
	case value.kind == nullKind:
		d.seen[f] = true
		d.refuse(f, FieldRequired)
	default:
		d.seen[f] = true
		if code := d.set(f, value); code != "" {
			d.refuse(f, code)
		}
	}
}

// set stores value in field f, or returns the code of the rule that it breaks.
func (d *decoder) set(f field, value *token) Code {
	switch f {
	case tradeIDField:
		return setID(&d.trade.TradeID, value)
	case counterpartyIDField:
		return setID(&d.trade.CounterpartyID, value)
	case bookIDField:
		return setID(&d.trade.BookID, value)
	case maturityDateField:
		return setDate(&d.trade.MaturityDate, value)
	case createdDateField:
		return setDate(&d.trade.CreatedDate, value)
	default:
		return setVersion(&d.trade.Version, value)
	}
}

func (d *decoder) refuse(f field, code Code) {
	d.report(Violation{fields[f].name, code, fields[f].rule})
}

func (d *decoder) report(v Violation) {
	if len(d.violations) < maxViolations {
		d.violations = append(d.violations, v)
	}
}

// setID checks bytes, not runes: a byte beyond ASCII is refused like any other that is not listed.
func setID(dst *string, value *token) Code {
	if value.kind != stringKind {
		return FieldType
	}
	text, ok := value.text()
	if !ok {
		return FieldFormat
	}
	if len(text) < 1 || len(text) > maxIDLen {
		return FieldRange
	}
	for i, c := range text {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return FieldFormat
		}
	}
	*dst = string(text) // a copy: the document's buffer is reused
	return ""
}

func setDate(dst *Date, value *token) Code {
	if value.kind != stringKind {
		return FieldType
	}
	text, ok := value.text()
	if !ok {
		return FieldFormat
	}
	if *dst, ok = ParseDate(text); !ok {
		return FieldFormat
	}
	return ""
}

// setVersion reads the literal itself: some decoders accept 1.0 and 1e2 as integers, or wrap large ones in silence.
func setVersion(dst *int32, value *token) Code {
	if value.kind != numberKind {
		return FieldType
	}
	n := int64(0)
	for _, c := range value.raw {
		if c < '0' || c > '9' {
			return FieldFormat
		}
		n = min(n*10+int64(c-'0'), maxVersion+1) // can't overflow, however long the literal
	}
	if n < 1 || n > maxVersion {
		return FieldRange
	}
	*dst = int32(n)
	return ""
}

// text returns the decoded bytes of a string token; ok is false for a string that is not valid text.
//
// Only strings with escapes, which are rare, go to go-json. To decode the whole document with it after the scan was
// measured: about one and a half times the time, and six allocations instead of three.
func (t *token) text() (text []byte, ok bool) {
	if t.spoilt {
		return nil, false
	}
	if !t.escaped {
		return t.raw[1 : len(t.raw)-1], true
	}
	var s string
	if err := json.Unmarshal(t.raw, &s); err != nil {
		return nil, false
	}
	return []byte(s), true
}

// fieldNamed returns the field of that exact name, or fieldCount.
func fieldNamed(name *token) field {
	text, ok := name.text()
	if !ok {
		return fieldCount
	}
	switch string(text) {
	case "trade_id":
		return tradeIDField
	case "version":
		return versionField
	case "counterparty_id":
		return counterpartyIDField
	case "book_id":
		return bookIDField
	case "maturity_date":
		return maturityDateField
	case "created_date":
		return createdDateField
	}
	return fieldCount
}

// printableName returns the name of an unknown field if it is safe to repeat in an answer, else nothing.
func printableName(name *token) string {
	text, ok := name.text()
	if !ok || len(text) > maxNameLen {
		return ""
	}
	for _, c := range text {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '_' {
			return ""
		}
	}
	return string(text)
}
