package trade

import "strings"

// Code is a stable, machine-readable reason. Clients switch on it; texts may change between releases, codes may not.
// One list serves problem documents and the reasons of failed requests.
type Code string

// Reasons why a trade is refused at once, or why an accepted one ends FAILED.
const (
	StaleVersion   Code = "STALE_VERSION"    // a higher version of the trade is stored
	MaturityInPast Code = "MATURITY_IN_PAST" // maturity_date is before the business date
	InvalidTrade   Code = "INVALID_TRADE"    // one or more fields break a rule: see errors[]
	MalformedJSON  Code = "MALFORMED_JSON"   // the body is not one flat JSON object
	InvalidRecord  Code = "INVALID_RECORD"   // the log record can't be stored; a dead letter holds it
	NotDelivered   Code = "NOT_DELIVERED"    // the record never reached the log and never will have an effect
)

// Reasons that belong to one field of a refused trade.
const (
	FieldRequired  Code = "REQUIRED"   // missing or null
	FieldUnknown   Code = "UNKNOWN"    // not a field of a trade, or not in its exact case
	FieldDuplicate Code = "DUPLICATE"  // present more than once
	FieldType      Code = "WRONG_TYPE" // a string where a number is wanted, or the reverse
	FieldFormat    Code = "FORMAT"     // right type, wrong spelling
	FieldRange     Code = "RANGE"      // right spelling, outside the limits
	FieldPast      Code = "IN_PAST"    // a date before the business date
)

// Violation is one broken rule of one field.
type Violation struct {
	Field  string // as in the JSON document; empty for the document as a whole
	Code   Code
	Detail string // for people: what is accepted
}

// Invalid says why a trade can't be accepted. It is a client's mistake, never a fault of the service. Functions return
// *Invalid and not error: a nil *Invalid stored in an error no longer compares equal to nil. Compare it with nil before
// it becomes an error.
type Invalid struct {
	Code       Code
	Violations []Violation // at least one; present fields in document order, then missing ones
}

// Error joins the violations into one line of printable ASCII. It never quotes a value: that may be hostile.
func (e *Invalid) Error() string {
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		parts[i] = v.Detail
		if v.Field != "" {
			parts[i] = v.Field + ": " + v.Detail
		}
	}
	return string(e.Code) + ": " + strings.Join(parts, "; ")
}
