package trade

import "strconv"

// AppendJSON writes t to dst as the value of a log record: the six fields in a fixed order, without white space. It
// escapes nothing, so t must have passed Decode, whose rules allow no byte in an identifier that JSON would escape.
// Decode reads the result back unchanged.
func AppendJSON(dst []byte, t *Trade) []byte {
	dst = append(dst, `{"trade_id":"`...)
	dst = append(dst, t.TradeID...)
	dst = append(dst, `","version":`...)
	dst = strconv.AppendInt(dst, int64(t.Version), 10)
	dst = append(dst, `,"counterparty_id":"`...)
	dst = append(dst, t.CounterpartyID...)
	dst = append(dst, `","book_id":"`...)
	dst = append(dst, t.BookID...)
	dst = append(dst, `","maturity_date":"`...)
	dst = t.MaturityDate.Append(dst)
	dst = append(dst, `","created_date":"`...)
	dst = t.CreatedDate.Append(dst)
	return append(dst, `"}`...)
}
