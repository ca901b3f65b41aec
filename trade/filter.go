package trade

// The first and the last day that a trade can carry.
const (
	FirstDate Date = -719_162  // 0001-01-01
	LastDate  Date = 2_932_896 // 9999-12-31
)

// Filter selects stored trades: those that match every field. AllTrades returns the filter that selects all of them.
type Filter struct {
	Prefix         string // of the trade id
	CounterpartyID string // empty: any
	BookID         string // empty: any
	MaturityFrom   Date   // inclusive
	MaturityTo     Date   // inclusive
	Latest         bool   // only the highest stored version of a trade, if that matches
}

// AllTrades returns the filter that every trade matches.
func AllTrades() Filter { return Filter{MaturityFrom: FirstDate, MaturityTo: LastDate} }

// Stored is the highest stored version of a trade and the request that stored it.
type Stored struct {
	Version   int32
	RequestID RequestID
}
