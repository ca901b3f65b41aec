package live

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/teststack/services"
)

// fault is something that goes wrong, and the alerts that have to say so.
type fault struct {
	name   string
	alerts []alert
	strike func(t *testing.T, s *stack) (repair func())
}

// alert is a rule, told apart by its long window where several have the name.
type alert struct {
	name, long string
	waits      bool // it is pending before it fires
}

var availabilityBurns = alert{"TradestoreAcceptAvailabilityBurn", "1h", true}

var faults = []fault{
	{
		name:   "the worker is killed",
		alerts: []alert{{name: "TradestoreTargetDown", waits: true}, {name: "TradestoreNothingDecided", waits: true}},
		strike: func(t *testing.T, s *stack) func() {
			s.worker.Kill()
			return func() { require.NoError(t, s.worker.Restart(t.Context())) }
		},
	}, {
		name:   "a record can't be stored",
		alerts: []alert{{name: "TradestoreDeadLetters"}},
		strike: func(t *testing.T, s *stack) func() {
			s.spoil(t)
			return func() {}
		},
	}, {
		name:   "PostgreSQL is stopped",
		alerts: []alert{{name: "TradestoreStoreUnreachable", waits: true}, {name: "TradestoreNothingDecided", waits: true}},
		strike: func(t *testing.T, s *stack) func() {
			s.postgres.Stop()
			return func() { s.startPostgres(t) }
		},
	}, {
		name:   "DynamoDB is killed",
		alerts: []alert{{name: "TradestoreStoreUnreachable", waits: true}, availabilityBurns},
		strike: func(t *testing.T, s *stack) func() {
			s.dynamo.Kill()
			return func() { require.NoError(t, s.dynamo.Restart(t.Context())) }
		},
	}, {
		name:   "there are more trades at once than the server may hold",
		alerts: []alert{{name: "TradestoreShedSustained", waits: true}, availabilityBurns},
		strike: func(t *testing.T, s *stack) func() {
			end := s.load(t, 3000, 4*most, "new=1")
			return func() { end() }
		},
	},
}

// strike waits until nothing is wrong, breaks it until every alert of the fault fires, and repairs it until none of them
// is left.
func (s *stack) strike(t *testing.T, f fault) {
	t.Helper()
	s.await(t, f, "inactive")
	began := time.Now()
	repair := f.strike(t, s)
	s.await(t, f, "firing")
	fired := time.Since(began)
	for _, a := range f.alerts {
		s.saysWhat(t, a)
		if a.waits {
			s.wasPending(t, a, fired)
		}
	}
	repair()
	s.await(t, f, "inactive")
	t.Logf("%s: all alerts fired after %v, and were gone %v later", f.name, fired.Round(time.Second), (time.Since(began) - fired).Round(time.Second))
}

// saysWhat demands that the texts and links of the alert are filled in.
func (s *stack) saysWhat(t *testing.T, a alert) {
	t.Helper()
	for _, instance := range s.rule(t, a).Alerts {
		for _, name := range []string{"summary", "description", "runbook_url", "dashboard_url"} {
			text := instance.Annotations[name]
			require.NotEmpty(t, text, "%s of %s", name, a.name)
			require.NotContains(t, text, "<", "%s of %s", name, a.name) // <no value>, <error expanding template>
		}
		require.NotEmpty(t, instance.Labels["severity"], a.name)
	}
}

// await waits until all alerts of the fault are in a state.
func (s *stack) await(t *testing.T, f fault, state string) {
	t.Helper()
	for _, a := range f.alerts {
		var last string
		so := func() bool {
			last = s.rule(t, a).State
			return last == state
		}
		require.True(t, eventually(t, so), "%s: %s is %s and not %s", f.name, a.name, last, state)
	}
}

// rule is what Prometheus makes of an alert now.
func (s *stack) rule(t *testing.T, a alert) services.Rule {
	t.Helper()
	all, err := s.prometheus.Rules(t.Context())
	require.NoError(t, err)
	var found []services.Rule
	for _, rule := range all {
		if rule.Name == a.name && (a.long == "" || rule.Labels["long"] == a.long) {
			found = append(found, rule)
		}
	}
	require.Len(t, found, 1, "rules of the name %s", a.name)
	return found[0]
}

// wasPending demands that the alert did not fire at once.
func (s *stack) wasPending(t *testing.T, a alert, back time.Duration) {
	t.Helper()
	selector := fmt.Sprintf(`ALERTS{alertname=%q,alertstate="pending"}`, a.name)
	if a.long != "" {
		selector = fmt.Sprintf(`ALERTS{alertname=%q,alertstate="pending",long=%q}`, a.name, a.long)
	}
	found, err := s.prometheus.QueryRange(t.Context(), selector, back+time.Second, time.Second/2)
	require.NoError(t, err)
	require.NotEmpty(t, found, "%s fired without being pending", a.name)
}
