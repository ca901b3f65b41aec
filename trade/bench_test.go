package trade

import (
	"fmt"
	"testing"
	"time"
)

var benchDoc = []byte(`{"trade_id":"TRD-2026-00012345","version":3,"counterparty_id":"CP-4711",` +
	`"book_id":"BOOK-RATES-EU","maturity_date":"2031-12-31","created_date":"2026-11-22"}`)

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(benchDoc)))
	for b.Loop() {
		if _, invalid := Decode(benchDoc); invalid != nil {
			b.Fatal(invalid)
		}
	}
}

func BenchmarkDecodeEscapes(b *testing.B) {
	doc := []byte(`{"trade_id":"TRD\u002d1","version":3,"counterparty_id":"CP\u002d1",` +
		`"book_id":"B\u002d1","maturity_date":"2031-12-31","created_date":"2026-11-22"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, invalid := Decode(doc); invalid != nil {
			b.Fatal(invalid)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	t, _ := Decode(benchDoc)
	b.ReportAllocs()
	for b.Loop() {
		if invalid := t.Validate(t.MaturityDate); invalid != nil {
			b.Fatal(invalid)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	t, _ := Decode(benchDoc)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], &t)
	}
}

func BenchmarkNewRequestID(b *testing.B) {
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		NewRequestID(now)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, size := range []int{250, 1000, 4000} {
		for _, stored := range []struct {
			name    string
			version int32
		}{{"new", 0}, {"replace", 5}, {"stale", 9}} {
			b.Run(fmt.Sprintf("%s/%d", stored.name, size), func(b *testing.B) {
				records := make([]Record, size)
				versions := make(map[string]int32, size)
				for i := range records {
					r := &records[i]
					r.ID = NewRequestID(time.UnixMilli(int64(1_800_000_000_000 + i)))
					r.Trade, _ = Decode(benchDoc)
					r.Trade.TradeID = fmt.Sprintf("TRD-%08d", (i*7919)%size)
					r.Trade.Version = 5
					if stored.version > 0 {
						versions[r.Trade.TradeID] = stored.version
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					if plan := Decide(records, versions, nil); len(plan.Decisions) != size {
						b.Fatal("undecided records")
					}
				}
				b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
