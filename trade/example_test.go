package trade_test

import (
	"fmt"
	"time"

	"tradestore/trade"
)

const document = `{"trade_id":"T-1","version":2,"counterparty_id":"CP-1","book_id":"B-1",` +
	`"maturity_date":"2031-12-31","created_date":"2026-01-15"}`

// A server decodes and validates what a client submits. A worker decides the records of the log, in their order.
func Example() {
	submitted, invalid := trade.Decode([]byte(document))
	if invalid != nil {
		fmt.Println(invalid)
		return
	}
	acceptedAt := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	if invalid := submitted.Validate(trade.DateOf(acceptedAt)); invalid != nil {
		fmt.Println(invalid)
		return
	}
	record := trade.Record{Request: trade.Request{
		ID: trade.NewRequestID(acceptedAt), Trade: submitted, AcceptedAt: acceptedAt, BusinessDate: trade.DateOf(acceptedAt),
	}}
	for _, highest := range []int32{1, 2, 3} { // the highest stored version of the trade
		plan := trade.Decide([]trade.Record{record}, map[string]int32{"T-1": highest}, nil)
		decision := plan.Decisions[0]
		fmt.Printf("stored %d: %s %s, %d inserted, %d replaced\n",
			highest, decision.Status, decision.Reason, len(plan.Inserts), len(plan.Replaces))
	}
	// Output:
	// stored 1: SUCCESS , 1 inserted, 0 replaced
	// stored 2: SUCCESS , 0 inserted, 1 replaced
	// stored 3: FAILED STALE_VERSION, 0 inserted, 0 replaced
}

// All broken rules are reported at once, and no value is quoted.
func ExampleDecode() {
	_, invalid := trade.Decode([]byte(`{"trade_id":"=1+1","version":1.0,"book":"B-1","maturity_date":"2031-02-30"}`))
	for _, violation := range invalid.Violations {
		fmt.Println(violation.Field, violation.Code)
	}
	// Output:
	// trade_id FORMAT
	// version FORMAT
	// book UNKNOWN
	// maturity_date FORMAT
	// counterparty_id REQUIRED
	// book_id REQUIRED
	// created_date REQUIRED
}

// The business date is fixed when the request is accepted. A trade may mature on that day, not before it.
func ExampleTrade_Validate() {
	maturity, _ := trade.ParseDate("2026-07-01")
	t := trade.Trade{MaturityDate: maturity}
	fmt.Println(t.Validate(maturity) == nil)
	fmt.Println(t.Validate(maturity + 1))
	// Output:
	// true
	// MATURITY_IN_PAST: maturity_date: not before the business date 2026-07-02 (UTC)
}

// A second copy of a record changes nothing: the first decision about a request stands.
func ExampleDecide_duplicate() {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	record := func(book string) trade.Record {
		return trade.Record{Request: trade.Request{
			ID: trade.NewRequestID(now), Trade: trade.Trade{TradeID: "T-1", Version: 1, BookID: book},
		}}
	}
	first, second := record("A"), record("B")
	plan := trade.Decide([]trade.Record{first, second, first}, nil, nil)
	fmt.Println(plan.Inserts[0].Trade.BookID, len(plan.Decisions), plan.Duplicates)
	// Output:
	// B 2 1
}
