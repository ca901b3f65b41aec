package kafka_test

import (
	"fmt"
	"strings"
	"time"

	"tradestore/kafka"
	"tradestore/trade"
)

// A record carries all that is known of a request when it is accepted. The worker reads nothing else to decide.
func ExampleEncode() {
	acceptedAt := time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)
	today := trade.DateOf(acceptedAt)
	request := trade.Request{
		ID:            trade.DeriveRequestID("", "a-key", 0), // fixed for the example; the server uses trade.NewRequestID
		Partition:     kafka.Partition("T-1", 12),
		AcceptedAt:    acceptedAt,
		BusinessDate:  today,
		CorrelationID: "call-7",
		Trade: trade.Trade{TradeID: "T-1", Version: 2, CounterpartyID: "CP-1", BookID: "B1",
			MaturityDate: today + 30, CreatedDate: today},
	}
	record := kafka.Encode("trades-inbound", &request)
	fmt.Printf("topic %s, partition %d\n", record.Topic, record.Partition)
	fmt.Printf("key   %s\n", record.Key)
	fmt.Printf("value %s\n", strings.Replace(string(record.Value), `,"mat`, ",\n "+`"mat`, 1)) // for the width of a page
	for _, header := range record.Headers {
		fmt.Printf("%s: %s\n", header.Key, header.Value)
	}

	decoded, _ := kafka.Decode(record) // it fails for a format of another release
	fmt.Println("the same request:", decoded.Request == request && decoded.Fault == "")
	// Output:
	// topic trades-inbound, partition 8
	// key   T-1
	// value {"trade_id":"T-1","version":2,"counterparty_id":"CP-1","book_id":"B1",
	//  "maturity_date":"2031-06-05","created_date":"2031-05-06"}
	// request_id: 20799fc8-610f-8fa6-b591-1c4f85b7ffb1
	// accepted_at: 2031-05-06T07:08:09.123456Z
	// business_date: 2031-05-06
	// schema: 1
	// correlation_id: call-7
	// the same request: true
}
