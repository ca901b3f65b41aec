package loadtest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

func TestParseMix(t *testing.T) {
	f := func(text string, want Mix, written string) {
		t.Helper()
		mix, err := ParseMix(text)
		require.NoError(t, err)
		require.Equal(t, want, mix)
		require.Equal(t, written, mix.String())
	}
	f("new=70", Mix{New: 70}, "new=70")
	f(" read-trade = 1 , new=2", Mix{New: 2, ReadTrade: 1}, "new=2,read-trade=1")
	f("new=1,stale=0", Mix{New: 1}, "new=1")
	f("past=1,bad=3", Mix{Past: 1, Bad: 3}, "past=1,bad=3")
	f(DefaultMix.String(), DefaultMix, "new=69,higher=5,replace=5,stale=3,past=1,bad=2,read-trade=10,read-request=5")
	assert.Equal(t, "kind 8", Kind(Kinds).String())
}

func TestParseMixSaysWhatItWants(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := ParseMix(text)
		require.ErrorContains(t, err, want)
	}
	f("", `"" is not KIND=WEIGHT: the kinds are new, higher, replace, stale, past, bad, read-trade, read-request`)
	f("new", `"new" is not KIND=WEIGHT`)
	f("new=1,newer=2", `"newer=2" is not KIND=WEIGHT`)
	f("new=1,new=2", "new is there twice")
	f("new=-1", `the weight of new is "-1"`)
	f("new=1.5", `the weight of new is "1.5"`)
	f("new=1000001", "from 0 to 1000000")
	f("new=0", "has no weight")
	f("stale=1", "stale refers to an earlier new trade, so new needs a weight as well")
}

func TestPlanIsRepeatable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, lag, first := rapid.Uint64().Draw(t, "seed"), rapid.Uint64Max(3000).Draw(t, "lag"),
			rapid.Uint64Max(1e9).Draw(t, "first")
		seq := rapid.Uint64Max(10_000).Draw(t, "seq")
		a, b := NewPlan("r1", seed, DefaultMix, lag, first), NewPlan("r1", seed, DefaultMix, lag, first)
		a.Op(seq + 1) // what was asked before doesn't matter
		require.Equal(t, a.Op(seq), b.Op(seq))
		op := Op{Body: make([]byte, 100, 1000), Code: "x", ContentType: "y"}
		a.Fill(&op, seq)
		require.Equal(t, b.Op(seq), op)
		require.Equal(t, b.Kind(seq), op.Kind)
	})
}

func TestPlansDifferBySeedRunAndFirst(t *testing.T) {
	kinds := func(p *Plan) (all []Kind) {
		for seq := range uint64(200) {
			all = append(all, p.Kind(seq))
		}
		return all
	}
	p := NewPlan("r1", 1, DefaultMix, 10, 0)
	assert.Equal(t, "LT-r1-0", p.TradeID(0))
	assert.Equal(t, "LT-r1-10", p.TradeID(36))
	assert.Equal(t, "r1-10", p.Correlation(36))
	assert.True(t, strings.HasPrefix(p.TradeID(36), p.Prefix()))
	assert.Equal(t, "LT-r1-1z", NewPlan("r1", 1, DefaultMix, 10, 70).TradeID(1))
	assert.Equal(t, kinds(p), kinds(NewPlan("r2", 1, DefaultMix, 10, 0)))
	assert.NotEqual(t, kinds(p), kinds(NewPlan("r1", 2, DefaultMix, 10, 0)))
	assert.NotEqual(t, kinds(p), kinds(NewPlan("r1", 1, DefaultMix, 10, 1)))
}

// share counts the kinds of n operations.
func share(p *Plan, n uint64) (counts [Kinds]float64) {
	for seq := range n {
		counts[p.Kind(seq)]++
	}
	for kind := range counts {
		counts[kind] /= float64(n)
	}
	return counts
}

func TestPlanKeepsToTheMix(t *testing.T) {
	f := func(text string, lag uint64, tolerance float64) {
		t.Helper()
		mix, err := ParseMix(text)
		require.NoError(t, err)
		const n = 50_000
		got := share(NewPlan("r1", 7, mix, lag, 0), n)
		for kind, weight := range mix {
			want := float64(weight) / float64(mix.total())
			require.InDelta(t, want, got[kind], tolerance+4*math.Sqrt(want*(1-want)/n), "%s of %s", Kind(kind), text)
		}
	}
	f("new=1", 2000, 0)
	f(DefaultMix.String(), 0, 0.001)
	f(DefaultMix.String(), 200, 0.003)
	f("new=60,higher=10,replace=10,stale=10,read-request=10", 2, 0.003)
	f("new=20,higher=80", 2, 0.003)
	f("new=1,past=1,bad=1", 2, 0)
}

// What an operation refers to is a New one, at least lag before it, and nobody else's unless the plan says so.
func TestPlanRefersToEarlierTrades(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var mix Mix
		for kind := range Kinds {
			mix[kind] = rapid.Uint32Max(100).Draw(t, Kind(kind).String())
		}
		mix[New]++
		lag := rapid.Uint64Max(200).Draw(t, "lag")
		p := NewPlan("r1", rapid.Uint64().Draw(t, "seed"), mix, lag, rapid.Uint64Max(1000).Draw(t, "first"))
		users := map[uint64][]Op{}
		for seq := range uint64(47 * block) {
			op := p.Op(seq)
			if !refers(op.Kind) {
				require.Equal(t, seq, op.Of)
				continue
			}
			base := p.Op(op.Of)
			require.Equal(t, New, base.Kind)
			require.LessOrEqual(t, op.Of+max(lag, 1), seq)
			require.Equal(t, base.Trade.TradeID, op.Trade.TradeID)
			if !op.Kind.Reads() {
				users[op.Of] = append(users[op.Of], op)
			}
		}
		for _, ops := range users {
			last := int32(baseVersion)
			for _, op := range ops {
				require.Equal(t, ops[0].Kind, op.Kind, "one kind has a base")
				switch op.Kind {
				case Higher:
					require.Equal(t, last+1, op.Trade.Version)
					require.Equal(t, len(ops) > 1, slices.Contains(op.Status, http.StatusBadRequest))
					last++
				case Replace:
					require.EqualValues(t, baseVersion, op.Trade.Version)
					require.NotEqual(t, p.Op(op.Of).Trade, op.Trade)
				default:
					require.Less(t, op.Trade.Version, int32(baseVersion))
				}
			}
		}
	})
}

// A tiny model of the service: a trade is stored a while after it is sent, refused when a higher version is stored, and
// judged again when it is stored. Each answer must be one that the plan expects, and as long as nothing takes longer
// than the lag, the one that gives the kind its name.
func TestPlanExpectsWhatTheRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const lag = 50
		p := NewPlan("r1", rapid.Uint64().Draw(t, "seed"), DefaultMix, lag, 0)
		delays := rapid.SliceOfN(rapid.IntRange(0, lag-1), 7, 7).Draw(t, "delays")
		highest := map[string]int32{}
		arriving := map[uint64][]Op{}
		for seq := range uint64(1000) {
			for _, op := range arriving[seq] {
				highest[op.Trade.TradeID] = max(highest[op.Trade.TradeID], op.Trade.Version)
			}
			op := p.Op(seq)
			status, code := http.StatusAccepted, trade.Code("")
			switch stored, there := highest[op.Trade.TradeID]; {
			case op.Kind == Bad:
				continue // a test of its own
			case op.Kind == ReadTrade:
				status = http.StatusOK
				require.True(t, there)
			case op.Kind == ReadRequest:
				status = http.StatusOK
			case op.Trade.MaturityDate < created:
				status, code = http.StatusBadRequest, trade.MaturityInPast
			case op.Trade.Version < stored:
				status, code = http.StatusBadRequest, trade.StaleVersion
			default:
				at := seq + 1 + uint64(delays[seq%7])
				arriving[at] = append(arriving[at], op)
			}
			require.Contains(t, op.Status, status, "%+v", op)
			if status >= 400 {
				require.Equal(t, op.Code, code)
			}
			require.Equal(t, op.Kind == Stale, code == trade.StaleVersion)
			require.Equal(t, op.Kind == Past, code == trade.MaturityInPast)
		}
	})
}

// The bodies say what the operations say, to a reader that is not ours.
func TestPlanBodies(t *testing.T) {
	p := NewPlan("20261123-091500-ab", 3, DefaultMix, 20, 0)
	shape := regexp.MustCompile(`^\{"trade_id":"LT-20261123-091500-ab-[0-9a-z]+","version":\d+,` +
		`"counterparty_id":"\d{4}00[0-9A-Z]{12}\d\d",` +
		`"book_id":"[A-Z]+-[A-Z]{3}-\d\d","maturity_date":"\d{4}-\d\d-\d\d","created_date":"202[45]-\d\d-\d\d"\}$`)
	parties, seen := map[string]bool{}, map[Kind]bool{}
	for seq := range uint64(3000) {
		op := p.Op(seq)
		seen[op.Kind] = true
		if op.Kind == Bad {
			continue
		}
		if op.Kind.Reads() {
			require.Nil(t, op.Body)
			require.Empty(t, op.ContentType)
			require.Equal(t, http.MethodGet, op.Method)
			continue
		}
		require.Regexp(t, shape, string(op.Body))
		require.Equal(t, []any{"POST", "/api/v1/trades", "application/json"}, []any{op.Method, op.Path, op.ContentType})
		var doc struct {
			TradeID      string `json:"trade_id"`
			Version      int32
			Counterparty string `json:"counterparty_id"`
			Book         string `json:"book_id"`
			Maturity     string `json:"maturity_date"`
			Created      string `json:"created_date"`
		}
		require.NoError(t, json.Unmarshal(op.Body, &doc))
		want := op.Trade
		require.Equal(t, fmt.Sprintln(want.TradeID, want.Version, want.CounterpartyID, want.BookID, want.MaturityDate,
			want.CreatedDate),
			fmt.Sprintln(doc.TradeID, doc.Version, doc.Counterparty, doc.Book, doc.Maturity, doc.Created))
		parties[doc.Counterparty] = true
	}
	assert.Len(t, seen, Kinds)
	assert.Greater(t, len(parties), 1000)
}

func TestPlanReads(t *testing.T) {
	p := NewPlan("r1", 3, Mix{New: 1, ReadTrade: 1, ReadRequest: 1}, 5, 0)
	for seq := range uint64(300) {
		op := p.Op(seq)
		switch op.Kind {
		default:
			require.NotContains(t, op.Status, 200)
		case ReadTrade:
			require.Equal(t, "/api/v1/trades/"+p.TradeID(op.Of), op.Path)
			require.Equal(t, []int{200, 404}, op.Status)
		case ReadRequest:
			require.Equal(t, "/api/v1/requests/", op.Path)
			require.Equal(t, []int{200}, op.Status)
			require.Equal(t, p.TradeID(op.Of), op.Trade.TradeID)
		}
	}
}

// Every mistake turns up, and none is repaired by what is put into it.
func TestPlanMakesEveryMistake(t *testing.T) {
	p := NewPlan("r1", 3, Mix{Bad: 1}, 5, 0)
	bodies := map[string]Op{}
	for seq := range uint64(2000) {
		op := p.Op(seq)
		require.Equal(t, Bad, op.Kind)
		require.Zero(t, op.Trade)
		require.Len(t, op.Status, 1)
		require.NotEmpty(t, op.Code)
		require.Contains(t, string(op.Body), `"`+p.TradeID(seq)+`"`)
		bodies[strings.Replace(string(op.Body), p.TradeID(seq), idMark, 1)+op.ContentType] = op
	}
	require.Len(t, bodies, len(badBodies))
	for text, op := range bodies {
		_, invalid := trade.Decode(op.Body)
		switch op.Code {
		case bodyTooLarge:
			require.Greater(t, len(op.Body), 16<<10)
		case unsupportedMediaType:
			require.NotEqual(t, contentJSON, op.ContentType)
		default:
			require.NotNil(t, invalid, text)
			require.Equal(t, op.Code, invalid.Code, text)
		}
	}
}

func BenchmarkPlanFill(b *testing.B) {
	p := NewPlan("20261123-091500-ab", 3, DefaultMix, 2000, 0)
	op := Op{Body: make([]byte, 0, 32<<10)}
	room := op.Body
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		op.Body = room
		p.Fill(&op, uint64(i))
	}
}
