package live

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack/services"
)

// fault is something that goes wrong, and the alerts that have to say so.
type fault struct {
	name      string
	alerts    []alert // while it lasts
	aftermath []alert // of the harm that shows when it is over
	strike    func(t *testing.T, s *deployment) (repair func())
}

// alert is a rule, told apart by its long window where several have the name.
type alert struct {
	name, long string
	waits      bool // it is pending before it fires
}

// Those that several faults set off.
var (
	availabilityBurns = alert{"TradestoreAcceptAvailabilityBurn", "1h", true}
	nothingDecided    = alert{name: "TradestoreNothingDecided", waits: true}
	unreachable       = alert{name: "TradestoreStoreUnreachable", waits: true}
)

var faults = []fault{
	{
		name:   "the worker is killed",
		alerts: []alert{{name: "TradestoreTargetDown", waits: true}, nothingDecided},
		strike: func(t *testing.T, s *deployment) func() {
			s.worker.Kill()
			return func() { require.NoError(t, s.worker.Restart(t.Context())) }
		},
	}, {
		name: "others write to the stores: they move positions, spoil the log, and leave a request without a record",
		alerts: []alert{{name: "TradestoreFenceLost"}, {name: "TradestoreDeadLetters"},
			{name: "TradestorePendingOld", waits: true}},
		aftermath: []alert{{name: "TradestoreOrphanReaperActive"}},
		strike: func(t *testing.T, s *deployment) func() {
			s.orphan(t)
			s.moveBack(t)
			s.spoil(t)
			return func() {}
		},
	}, {
		name:      "PostgreSQL is stopped",
		alerts:    []alert{unreachable, nothingDecided, {name: "TradestoreConsumerStuck", waits: true}},
		aftermath: []alert{{"TradestoreTimeToFinalBurn", "1h", true}},
		strike: func(t *testing.T, s *deployment) func() {
			s.postgres.Stop()
			return func() { s.startPostgres(t) }
		},
	}, {
		name:   "DynamoDB is killed",
		alerts: []alert{unreachable, availabilityBurns},
		strike: func(t *testing.T, s *deployment) func() {
			s.dynamo.Kill()
			return func() { require.NoError(t, s.dynamo.Restart(t.Context())) }
		},
	}, {
		name:   "Kafka is killed",
		alerts: []alert{unreachable, availabilityBurns, {name: "TradestorePartitionShut", waits: true}},
		strike: func(t *testing.T, s *deployment) func() {
			s.kafka.Kill()
			return func() { require.NoError(t, s.kafka.Restart(t.Context())) }
		},
	}, {
		name:   "Kafka hangs most of the time",
		alerts: []alert{{"TradestoreAcceptLatencyBurn", "1h", true}},
		strike: func(t *testing.T, s *deployment) func() { return s.slowKafka(t) },
	}, {
		name:   "there are more trades at once than the server may hold",
		alerts: []alert{{name: "TradestoreShedSustained", waits: true}, availabilityBurns},
		strike: func(t *testing.T, s *deployment) func() {
			end := s.load(t, 3000, 4*most, "new=1")
			return func() { end() }
		},
	},
}

// strike waits until nothing is wrong, breaks it until every alert of the fault fires, repairs it until those of the
// aftermath have fired, and waits until none is left.
func (s *deployment) strike(t *testing.T, f fault) {
	t.Helper()
	all := slices.Concat(f.alerts, f.aftermath)
	s.await(t, f, all, "inactive")
	began := time.Now()
	repair := f.strike(t, s)
	s.await(t, f, f.alerts, "firing")
	fired := time.Now()
	repair()
	s.await(t, f, f.aftermath, "firing")
	s.await(t, f, all, "inactive")
	for _, a := range all {
		if a.waits {
			s.wasPending(t, a, time.Since(began))
		}
	}
	t.Logf("%s: all alerts fired after %v, and were gone %v later", f.name, fired.Sub(began).Round(time.Second),
		time.Since(fired).Round(time.Second))
}

// endsLoudly changes the schema under the worker and then the topic under the server. The metrics of each stay up until
// a scrape has seen why it stops, then they are gone: the alert ends, and another one tells that.
func (s *deployment) endsLoudly(t *testing.T) {
	t.Helper()
	f := fault{name: "a table is gone, the topic is made again"}
	stopped, failed, absent := alert{name: "TradestoreLoudStop"}, alert{name: "TradestoreCheckFailed"},
		alert{name: "TradestoreAbsent", waits: true}
	s.await(t, f, []alert{stopped, failed, absent}, "inactive")
	began := time.Now()
	s.exec(t, "ALTER TABLE journal RENAME TO elsewhere")
	s.submit(t)
	s.await(t, f, []alert{stopped}, "firing")
	s.recreate(t)
	s.await(t, f, []alert{failed}, "firing")
	for _, role := range []*services.Process{s.worker, s.server} {
		select {
		case <-role.Done():
		case <-time.After(limit):
			require.Fail(t, "still running", "%s", role.Log())
		}
	}
	s.await(t, f, []alert{absent}, "firing")
	s.await(t, f, []alert{stopped, failed}, "inactive")
	s.wasPending(t, absent, time.Since(began))
	t.Logf("%s: told, ended and gone after %v", f.name, time.Since(began).Round(time.Second))
}

// await waits until each of the alerts is in a state, and looks at what one says that fires.
func (s *deployment) await(t *testing.T, f fault, alerts []alert, state string) {
	t.Helper()
	for _, a := range alerts {
		var last services.Rule
		so := func() bool {
			last = s.rule(t, a)
			return last.State == state
		}
		require.True(t, eventually(t, so), "%s: %s is %s and not %s", f.name, a.name, last.State, state)
		saysWhat(t, last)
	}
}

// saysWhat demands that the texts and links of the alerts of a rule are filled in.
func saysWhat(t *testing.T, r services.Rule) {
	t.Helper()
	for _, a := range r.Alerts {
		for _, name := range []string{"summary", "description", "runbook_url", "dashboard_url"} {
			require.NotEmpty(t, a.Annotations[name], "%s of %s", name, r.Name)
			require.NotContains(t, a.Annotations[name], "<", "%s of %s", name, r.Name) // <no value>, <error expanding template>
		}
		require.NotEmpty(t, a.Labels["severity"], r.Name)
	}
}

// rule is what Prometheus makes of an alert now.
func (s *deployment) rule(t *testing.T, a alert) services.Rule {
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
func (s *deployment) wasPending(t *testing.T, a alert, back time.Duration) {
	t.Helper()
	selector := fmt.Sprintf(`ALERTS{alertname=%q,alertstate="pending"}`, a.name)
	if a.long != "" {
		selector = fmt.Sprintf(`ALERTS{alertname=%q,alertstate="pending",long=%q}`, a.name, a.long)
	}
	found, err := s.prometheus.QueryRange(t.Context(), selector, back+time.Second, time.Second/2)
	require.NoError(t, err)
	require.NotEmpty(t, found, "%s fired without being pending", a.name)
}
