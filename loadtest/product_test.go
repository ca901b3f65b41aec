package loadtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/test/program"
	"tradestore/test/stack"
)

// The service answers every kind of operation, and every mistake in the table, as the plan says; the plan knows it from
// the API guide alone. Both generators find the same.
func TestProductAnswersAsThePlanSays(t *testing.T) {
	stack.Database(t) // skips where the embedded database can't run
	stack, err := StartStack(t.Context(), program.Build(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stack.Close()) })
	const perSecond = 150
	s := schedule(t, fmt.Sprintf("%d/6s", perSecond), 500*time.Millisecond)
	mix := Mix{New: 50, Higher: 10, Replace: 10, Stale: 10, Past: 5, Bad: 15, ReadTrade: 10, ReadRequest: 10}
	both(t, 100, 30*time.Second, func(t *testing.T, g Generator) {
		p := NewPlan("plan-"+g.Name(), 1, mix, 2*perSecond, 0)
		into := NewResults(time.Now())
		require.NoError(t, g.Attack(t.Context(), parseURL(t, stack.API), p, s, into))
		kinds, mistakes, stale := map[Kind]int{}, map[string]bool{}, 0
		for r := range into.All() {
			op := p.Op(r.Seq)
			kinds[op.Kind]++
			if r.Status == 503 {
				continue // a machine that is busy with other tests may shed
			}
			assert.Empty(t, r.Err)
			assert.Contains(t, op.Status, int(r.Status), "%s %.300s: %s", op.Kind, op.Body, r.Code)
			if r.Status >= 400 {
				assert.Equal(t, op.Code, r.Code, "%s %.300s", op.Kind, op.Body)
			}
			if op.Kind == Bad {
				i := slices.IndexFunc(badBodies, func(b badBody) bool {
					return string(op.Body) == b.before+p.TradeID(r.Seq)+b.after
				})
				mistakes[badBodies[i].before+badBodies[i].after+op.ContentType] = true
			}
			if op.Kind == Stale && r.Status == 400 {
				stale++
			}
		}
		assert.Len(t, kinds, Kinds)
		assert.Len(t, mistakes, len(badBodies))
		assert.NotZero(t, stale, "not one base was stored before its stale version came")
	})
}
