package trade

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// script makes records out of words like "a:T1v5" (request a, trade T1, version 5), "b!" (request b, unreadable) and
// "!" (unreadable, no request id). Offsets count from 0.
func script(text string) []Record {
	var records []Record
	for i, word := range strings.Fields(text) {
		r := Record{Offset: int64(i)}
		id, rest, good := strings.Cut(word, ":")
		if !good {
			id, r.Fault = strings.TrimSuffix(word, "!"), "unreadable"
		} else if n, err := fmt.Sscanf(strings.Replace(rest, "v", " ", 1), "%s %d",
			&r.Trade.TradeID, &r.Trade.Version); n != 2 || err != nil {
			panic(word)
		}
		copy(r.ID[:], id)
		records = append(records, r)
	}
	return records
}

// describe writes a plan as rows (with = before one that replaces), decisions, dead letters and duplicates, each with
// offsets.
func describe(p Plan) string {
	var rows, decisions, letters []string
	for _, r := range p.Inserts {
		rows = append(rows, fmt.Sprintf("%sv%d@%d", r.Trade.TradeID, r.Trade.Version, r.Offset))
	}
	for _, r := range p.Replaces {
		rows = append(rows, fmt.Sprintf("=%sv%d@%d", r.Trade.TradeID, r.Trade.Version, r.Offset))
	}
	for _, d := range p.Decisions {
		decisions = append(decisions, strings.TrimSuffix(fmt.Sprintf("%d=%s/%s", d.Record.Offset, d.Status, d.Reason), "/"))
	}
	for _, r := range p.DeadLetters {
		letters = append(letters, fmt.Sprint(r.Offset))
	}
	return fmt.Sprintf("%s | %s | %s | %d",
		strings.Join(rows, " "), strings.Join(decisions, " "), strings.Join(letters, " "), p.Duplicates)
}

func TestDecide(t *testing.T) {
	t.Parallel()
	f := func(log string, stored map[string]int32, decided, want string) {
		t.Helper()
		ids := map[RequestID]struct{}{}
		for _, r := range script(decided) {
			ids[r.ID] = struct{}{}
		}
		require.Equal(t, want, describe(Decide(script(log), stored, ids)))
	}
	T := func(version int32) map[string]int32 { return map[string]int32{"T": version} }

	f("", nil, "", " |  |  | 0")
	// higher inserts, equal replaces, lower is stale
	f("a:Tv1", nil, "", "Tv1@0 | 0=SUCCESS |  | 0")
	f("a:Tv5", T(4), "", "Tv5@0 | 0=SUCCESS |  | 0")
	f("a:Tv5", T(5), "", "=Tv5@0 | 0=SUCCESS |  | 0")
	f("a:Tv5", T(6), "", " | 0=FAILED/STALE_VERSION |  | 0")
	f("a:Tv2147483647", T(2147483647), "", "=Tv2147483647@0 | 0=SUCCESS |  | 0")
	f("a:Tv2147483646", T(2147483647), "", " | 0=FAILED/STALE_VERSION |  | 0")
	f("a:Tv5", map[string]int32{"U": 9}, "", "Tv5@0 | 0=SUCCESS |  | 0")
	f("a:Tv9", T(1), "", "Tv9@0 | 0=SUCCESS |  | 0") // versions may be skipped
	// within a batch
	f("a:Tv5 b:Tv3", nil, "", "Tv5@0 | 0=SUCCESS 1=FAILED/STALE_VERSION |  | 0")
	f("a:Tv3 b:Tv5", nil, "", "Tv3@0 Tv5@1 | 0=SUCCESS 1=SUCCESS |  | 0")
	f("a:Tv5 b:Tv5", nil, "", "Tv5@1 | 0=SUCCESS 1=SUCCESS |  | 0")
	f("a:Tv5 b:Tv5 c:Tv5", T(5), "", "=Tv5@2 | 0=SUCCESS 1=SUCCESS 2=SUCCESS |  | 0")
	f("a:Uv1 b:Tv5 c:Tv6", T(5), "", "Tv6@2 Uv1@0 =Tv5@1 | 0=SUCCESS 1=SUCCESS 2=SUCCESS |  | 0")
	f("a:Tv5 b:Tv6 c:Tv5", nil, "", "Tv5@0 Tv6@1 | 0=SUCCESS 1=SUCCESS 2=FAILED/STALE_VERSION |  | 0")
	f("a:Tv3 b:Tv5", T(4), "", "Tv5@1 | 0=FAILED/STALE_VERSION 1=SUCCESS |  | 0")
	// rows are sorted by key, decisions stay in log order
	f("a:Uv1 b:Tv10 c:Tv11 d:Sv1", nil, "", "Sv1@3 Tv10@1 Tv11@2 Uv1@0 | 0=SUCCESS 1=SUCCESS 2=SUCCESS 3=SUCCESS |  | 0")
	f("a:Uv2 b:Tv1 c:Uv2 d:Tv1", nil, "", "Tv1@3 Uv2@2 | 0=SUCCESS 1=SUCCESS 2=SUCCESS 3=SUCCESS |  | 0")
	// a request is decided once: the log A, B, A ends with B
	f("a:Tv1 b:Tv1 a:Tv1", nil, "", "Tv1@1 | 0=SUCCESS 1=SUCCESS |  | 1")
	f("b:Tv1 a:Tv1", nil, "a!", "Tv1@0 | 0=SUCCESS |  | 1")
	f("a:Tv9 b:Tv1", nil, "a!", "Tv1@1 | 1=SUCCESS |  | 1") // a dropped record raises nothing
	f("a:Tv1 a:Tv2", nil, "", "Tv1@0 | 0=SUCCESS |  | 1")
	f("a:Tv1 a:Tv3", T(2), "", " | 0=FAILED/STALE_VERSION |  | 1")
	f("a:Tv1 b:Tv2 a:Tv1 b:Tv2", nil, "a! b!", " |  |  | 4")
	// what can't be stored
	f("a! b:Tv1", nil, "", "Tv1@1 | 0=FAILED/INVALID_RECORD 1=SUCCESS | 0 | 0")
	f("! b:Tv1 !", nil, "", "Tv1@1 | 1=SUCCESS | 0 2 | 0")
	f("a! a!", nil, "", " | 0=FAILED/INVALID_RECORD | 0 | 1")
	f("a:Tv1 a!", nil, "", "Tv1@0 | 0=SUCCESS |  | 1")
	f("a!", nil, "a!", " |  |  | 1")
}

func TestDecideDetails(t *testing.T) {
	t.Parallel()
	plan := Decide(script("a:Tv5 b:Tv3 c!"), nil, nil)
	require.Equal(t, "", plan.Decisions[0].Detail)
	require.Equal(t, "version 3 is lower than version 5, which is stored", plan.Decisions[1].Detail)
	require.Equal(t, "unreadable", plan.Decisions[2].Detail)
	require.Equal(t, "version 1 is lower than version 2147483647, which is stored", StaleDetail(1, 2147483647))
}

// oneByOne is a simple store that applies one record after the other: no batches, no maps of maxima, no sorting.
type oneByOne struct {
	rows       []row
	outcomes   []string // "id status reason detail", in the order decided
	decided    []RequestID
	letters    []int64
	duplicates int
}

type row struct {
	key    Key
	offset int64
}

func (s *oneByOne) apply(r Record) {
	if !r.ID.IsZero() {
		if slices.Contains(s.decided, r.ID) {
			s.duplicates++
			return
		}
		s.decided = append(s.decided, r.ID)
	}
	if r.Fault != "" {
		s.letters = append(s.letters, r.Offset)
		if !r.ID.IsZero() {
			s.decide(r, "FAILED", "INVALID_RECORD", r.Fault)
		}
		return
	}
	switch high := s.max(r.Trade.TradeID); {
	case r.Trade.Version < high:
		detail := fmt.Sprintf("version %d is lower than version %d, which is stored", r.Trade.Version, high)
		s.decide(r, "FAILED", "STALE_VERSION", detail)
	case r.Trade.Version == high:
		same := func(old row) bool { return old.key == r.Trade.Key() }
		s.rows[slices.IndexFunc(s.rows, same)].offset = r.Offset
		s.decide(r, "SUCCESS", "", "")
	default:
		s.rows = append(s.rows, row{r.Trade.Key(), r.Offset})
		s.decide(r, "SUCCESS", "", "")
	}
}

func (s *oneByOne) decide(r Record, status, reason, detail string) {
	s.outcomes = append(s.outcomes, fmt.Sprintf("%x %s %s %s", r.ID, status, reason, detail))
}

func (s *oneByOne) max(tradeID string) (version int32) {
	for _, r := range s.rows {
		if r.key.TradeID == tradeID {
			version = max(version, r.key.Version)
		}
	}
	return version
}

// inBatches is a store that applies plans.
type inBatches struct {
	rows       map[Key]int64
	outcomes   []string
	decided    map[RequestID]struct{}
	letters    []int64
	duplicates int
}

func (l *inBatches) apply(t require.TestingT, batch []Record) {
	stored := map[string]int32{}
	for k := range l.rows {
		stored[k.TradeID] = max(stored[k.TradeID], k.Version)
	}
	storedBefore, decidedBefore := maps.Clone(stored), maps.Clone(l.decided)
	plan := Decide(batch, stored, l.decided)
	require.Equal(t, storedBefore, stored)
	require.Equal(t, decidedBefore, l.decided)
	require.Equal(t, describe(plan), describe(Decide(batch, stored, l.decided)), "the same arguments, another plan")

	for _, rows := range [][]*Record{plan.Inserts, plan.Replaces} {
		require.True(t, slices.IsSortedFunc(rows, func(a, b *Record) int {
			if a.Trade.Key().Less(b.Trade.Key()) {
				return -1
			}
			return 1 // two equal keys count as unsorted
		}), "rows are not sorted or not unique")
	}
	for _, r := range plan.Inserts {
		require.NotContains(t, l.rows, r.Trade.Key())
	}
	for _, r := range plan.Replaces {
		require.Contains(t, l.rows, r.Trade.Key())
	}
	for _, r := range slices.Concat(plan.Inserts, plan.Replaces) {
		l.rows[r.Trade.Key()] = r.Offset
	}
	for _, d := range plan.Decisions {
		require.NotContains(t, l.decided, d.Record.ID)
		l.decided[d.Record.ID] = struct{}{}
		l.outcomes = append(l.outcomes, fmt.Sprintf("%x %s %s %s", d.Record.ID, d.Status, d.Reason, d.Detail))
	}
	for _, r := range plan.DeadLetters {
		l.letters = append(l.letters, r.Offset)
	}
	l.duplicates += plan.Duplicates
}

func logs() *rapid.Generator[[]Record] {
	record := rapid.Custom(func(t *rapid.T) Record {
		var r Record
		if rapid.IntRange(0, 9).Draw(t, "fault") == 0 {
			r.Fault = "unreadable"
			r.ID[0] = rapid.ByteRange(0, 30).Draw(t, "id") // 0: no id
			return r
		}
		r.ID[0] = rapid.ByteRange(1, 30).Draw(t, "id")
		r.Trade.TradeID = rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "trade")
		r.Trade.Version = rapid.Int32Range(1, 4).Draw(t, "version")
		return r
	})
	return rapid.Map(rapid.SliceOfN(record, 0, 40), func(log []Record) []Record {
		for i := range log {
			log[i].Offset = int64(i)
		}
		return log
	})
}

// Invariant A3: any split of a log into batches gives what applying it record by record gives.
func TestDecideDoesNotDependOnBatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := logs().Draw(t, "log")
		var model oneByOne
		for _, r := range log {
			model.apply(r)
		}
		real := inBatches{rows: map[Key]int64{}, decided: map[RequestID]struct{}{}}
		for rest := log; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			real.apply(t, rest[:n])
			rest = rest[n:]
		}

		want := map[Key]int64{}
		for _, r := range model.rows {
			want[r.key] = r.offset
		}
		require.Len(t, want, len(model.rows))
		require.Equal(t, want, real.rows)
		require.Equal(t, model.outcomes, real.outcomes)
		require.Equal(t, model.letters, real.letters)
		require.Equal(t, model.duplicates, real.duplicates)
	})
}
