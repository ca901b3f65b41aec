package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The model of rule R7: server, request store, network, log, worker and two orphan reapers, in every order of their
// steps. Load tests meet a few orders, and the rare ones by luck. The model meets all of them, for one request and a
// second one of the same trade.

// node is a state of the search, and the step that led to it.
type node struct {
	model  model
	before int // index of the node that it came from; -1 at the start
	step   string
}

// search visits all states breadth first and returns how many there are. It ends at the first state, or step, that
// breaks an invariant, and returns the shortest path to it; the path is empty when no invariant is broken.
func search(r rules) (states int, broken string, path []string) {
	seen := map[model]struct{}{{}: {}}
	nodes := []node{{before: -1}}
	for at := 0; at < len(nodes); at++ {
		from, last := nodes[at].model, true
		for _, move := range steps {
			move(&r, from, func(what string, to model) {
				if broken != "" || to == from {
					return
				}
				last = false
				if _, ok := seen[to]; ok {
					return
				}
				seen[to] = struct{}{}
				nodes = append(nodes, node{to, at, what})
				if broken = checkStep(from, to); broken == "" {
					broken = r.checkState(to)
				}
			})
		}
		if broken == "" && last { // nobody can move: this is a final state, since no step can be undone
			if broken = checkFinal(from); broken != "" {
				nodes = nodes[:at+1]
			}
		}
		if broken != "" {
			for i := len(nodes) - 1; i > 0; i = nodes[i].before {
				path = append(path, nodes[i].step)
			}
			slices.Reverse(path)
			return len(nodes), broken, path
		}
	}
	return len(nodes), "", nil
}

// checkState returns which invariant a state breaks, or nothing.
func (r *rules) checkState(w model) string {
	inLog, closed := slices.Contains(w.log[:], 1+subject), w.outcome[subject] == notDelivered
	rows, outcome := r.replay(w)
	switch {
	case w.answer == accepted && !inLog:
		return "I1: answered 202, and not in the log"
	case w.answer == accepted && (closed || w.entry == notDelivered):
		return "I1: answered 202, and closed as NOT_DELIVERED"
	case w.decided[subject] > 1 || w.decided[bystander] > 1:
		return "I4: decided twice"
	case w.rows != rows:
		return fmt.Sprintf("I3: stored %v, the log says %v", w.rows, rows)
	case w.outcome != outcome:
		return fmt.Sprintf("I4: decided %v, the log says %v", w.outcome, outcome)
	case w.entry.terminal() && w.entry != w.outcome[subject]:
		return "I5: the entry shows another outcome than the one decided"
	case closed && slices.Contains(w.log[:w.closed], 1+subject):
		return "R5: closed as NOT_DELIVERED behind its own record"
	}
	return ""
}

// checkStep returns which invariant a step breaks, or nothing.
func checkStep(from, to model) string {
	switch {
	case from.entry.terminal() && to.entry != from.entry:
		return "I6: a terminal state changed"
	case from.outcome[subject] != nothing && to.outcome[subject] != from.outcome[subject]:
		return "I4: an outcome changed"
	case to.next < from.next:
		return "I11: a position went back"
	}
	return ""
}

// checkFinal returns which invariant a state breaks in which nobody can move, or nothing.
func checkFinal(w model) string {
	switch {
	case w.answer == nothing:
		return "P4: never answered"
	case w.entry == waiting:
		return "I5: PENDING for ever"
	case w.next != w.end():
		return "I10: not applied"
	}
	return ""
}

// replay returns what the applied part of the log means, by a second implementation of the rule: a closed request does
// not count, nor does a second copy.
func (r *rules) replay(w model) (rows [3]uint8, outcome [2]status) {
	if w.outcome[subject] == notDelivered {
		outcome[subject] = notDelivered
	}
	highest := int32(0)
	for _, record := range w.log[:w.next] {
		of := record - 1
		switch {
		case outcome[of] != nothing:
		case r.version[of] < highest:
			outcome[of] = stale
		default:
			outcome[of], highest = success, r.version[of]
			rows[highest] = record
		}
	}
	return rows, outcome
}

// versions are those of the subject and the bystander: the same, so that one replaces the other, and either order.
var versions = [][2]int32{{1, 1}, {1, 2}, {2, 1}}

func TestModelOfTheRules(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			states, broken, path := search(rules{version: version})
			require.Empty(t, broken, strings.Join(path, "\n"))
			require.Greater(t, states, 100_000, "fewer states are not the whole search")
			t.Logf("%d states", states)
		})
	}
}

// Each rule is needed: without it some order of events breaks an invariant. -v prints the shortest one.
func TestModelWithoutARule(t *testing.T) {
	t.Parallel()
	f := func(without string, r rules, want string) {
		t.Helper()
		r.version = versions[0]
		states, broken, path := search(r)
		assert.Contains(t, broken, want, "without %s", without)
		t.Logf("without %s: %s, among %d states\n    %s", without, broken, states, strings.Join(path, "\n    "))
	}
	f("C3", rules{openAgain: true}, "I6")
	f("C6", rules{noDeadline: true}, "I1")
	f("A2", rules{noDuplicate: true}, "I4")
	f("R1, an entry with an outcome", rules{noProject: true}, "I5")
	f("R1, the note of what lands late", rules{noNote: true}, "I5")
	f("R1, the wait for transactions that write", rules{noWriters: true}, "I5")
	f("R1, a mark behind what is not late", rules{earlyMark: true}, "I5")
	f("R2", rules{noWait: true}, "I1")
	f("R2, longer than the accept deadline", rules{shortWait: true}, "I1")
	f("R3", rules{noEnd: true}, "I1")
	f("R3, after the wait", rules{endAtSight: true}, "I1")
	f("R4, the look for an outcome", rules{noLook: true}, "I4")
}
