package trade

// Validate checks the one rule that depends on the day: a trade must not have matured before businessDate, the UTC day
// fixed when the request was accepted. Every other rule is checked by Decode. The result is nil for a good trade.
func (t *Trade) Validate(businessDate Date) *Invalid {
	if t.MaturityDate >= businessDate {
		return nil
	}
	return &Invalid{MaturityInPast, []Violation{{
		fields[maturityDateField].name, FieldPast, "not before the business date " + businessDate.String() + " (UTC)",
	}}}
}
