package dynamo

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

func TestProjectGivesEachRequestItsEnd(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 60)
	outcomes := succeeded(batch)
	outcomes[1] = decided(batch[1], trade.Failed, trade.StaleVersion)
	outcomes[2] = decided(batch[2], trade.Failed, trade.InvalidRecord)
	outcomes[2].TradeID, outcomes[2].Version, outcomes[2].Detail = "", 0, "" // nothing could be read
	require.NoError(t, l.Project(t.Context(), outcomes[:59]))

	require.Equal(t, outcomes[0].RequestState, l.state(t, batch[0].ID))
	require.Equal(t, outcomes[1].RequestState, l.state(t, batch[1].ID))
	unread := l.state(t, batch[2].ID)
	require.Equal(t, trade.InvalidRecord, unread.Reason)
	require.Equal(t, batch[2].Trade.TradeID, unread.TradeID, "what was accepted is known all the same")
	require.Equal(t, trade.Pending, l.state(t, batch[59].ID).Status)

	item := l.item(t, batch[0].ID)
	require.NotContains(t, item, attrPending)
	end := outcomes[0].DecidedAt.Add(defaultLife)
	require.Equal(t, text("2026-03-04T12:00:01.000000Z"), item[attrDecidedAt])
	require.Equal(t, number(end.Unix()), item[attrExpiresAt])

	l.now = end.Add(-time.Second)
	l.state(t, batch[0].ID)
	l.now = end
	l.absent(t, batch[0].ID)
	require.Equal(t, trade.Pending, l.state(t, batch[59].ID).Status, "PENDING never expires")
	require.NoError(t, l.Project(t.Context(), nil))
}

// The three cases of rule S2, against the real table.
func TestProjectWhatIsNotPending(t *testing.T) {
	var lines bytes.Buffer
	l := newFixtureOn(t, stack.DynamoDB(t), zerolog.New(&lines))
	batch := l.opened(t, 2)
	outcomes := succeeded(batch)
	require.NoError(t, l.Project(t.Context(), outcomes))
	want := l.item(t, batch[0].ID)

	later := outcomes[0]
	later.DecidedAt = later.DecidedAt.Add(time.Hour)
	require.NoError(t, l.Project(t.Context(), []trade.Decision{later}))
	require.Equal(t, 1, l.foundCount(foundSame))
	require.Empty(t, lines.String())

	unknown := newRequests(1)
	require.NoError(t, l.Project(t.Context(), succeeded(unknown)))
	require.Equal(t, 1, l.foundCount(foundMissing))
	require.Nil(t, l.item(t, unknown[0].ID), "never created")

	other := decided(batch[0], trade.Failed, trade.NotDelivered)
	require.NoError(t, l.Project(t.Context(), []trade.Decision{other}))
	require.Equal(t, 1, l.foundCount(foundConflict))
	var line map[string]any
	require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
	require.Equal(t, "error", line["level"])
	require.Equal(t, batch[0].ID.String(), line["request_id"])

	require.Equal(t, want, l.item(t, batch[0].ID), "what was shown stays, to the byte")
}

// A forged record may carry the id of another request. The first outcome stands and the projector goes on.
func TestProjectARequestWithTwoOutcomes(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 2)
	stale := decided(batch[0], trade.Failed, trade.StaleVersion)
	require.NoError(t, l.Project(t.Context(), append(succeeded(batch), stale)))
	require.Equal(t, trade.Success, l.state(t, batch[0].ID).Status)
	require.Equal(t, 1, l.foundCount(foundConflict))
}

func TestProjectGoesOnAfterTrouble(t *testing.T) {
	l := newFixture(t)
	f := func(name string, again int, faults ...fault) {
		t.Helper()
		before := l.proxy.count(opStatements)
		batch := l.opened(t, 30)
		l.proxy.next(opStatements, faults...)
		require.NoError(t, l.Project(t.Context(), succeeded(batch)), name)
		require.Equal(t, before+2+again, l.proxy.count(opStatements), name)
		for _, r := range batch {
			require.Equal(t, trade.Success, l.state(t, r.ID).Status, name)
		}
	}
	f("throttled", 1, throttle)
	f("reset before", 1, resetBefore)
	f("reset after", 1, resetAfter)
	f("500 after", 1, errorAfter)
	f("half an answer", 1, truncated)
	f("some statements refused", 1, refuseSome(t, "ThrottlingError"), refuseSome(t, "InternalServerError"))
	f("both calls throttled", 2, times(2, throttle)...)
	require.Zero(t, l.foundCount(foundConflict))
	require.Zero(t, l.foundCount(foundMissing))
	require.Positive(t, testutil.ToFloat64(l.metrics.throttled[opStatements]))
}

// refuseSome lets every second statement through and answers the others with a code.
func refuseSome(t testing.TB, code string) fault {
	return func(c *passing) {
		var in struct{ Statements []json.RawMessage }
		require.NoError(t, json.Unmarshal(c.body, &in))
		all := in.Statements
		in.Statements = nil
		for i := 0; i < len(all); i += 2 {
			in.Statements = append(in.Statements, all[i])
		}
		var err error
		c.body, err = json.Marshal(in)
		require.NoError(t, err)
		_, _, body := c.forward()
		var out struct{ Responses []json.RawMessage }
		require.NoError(t, json.Unmarshal(body, &out))
		answers := make([]json.RawMessage, len(all))
		for i := range all {
			answers[i] = json.RawMessage(`{"Error":{"Code":"` + code + `","Message":"as the test wants it"}}`)
			if i%2 == 0 {
				answers[i] = out.Responses[i/2]
			}
		}
		answer, err := json.Marshal(map[string]any{"Responses": answers})
		require.NoError(t, err)
		c.answer(http.StatusOK, jsonHeader, answer)
	}
}

func TestProjectGivesUp(t *testing.T) {
	l := newFixture(t)
	f := func(name string, calls int, faults ...fault) {
		t.Helper()
		before := l.proxy.count(opStatements)
		batch := l.opened(t, 1)
		l.proxy.next(opStatements, faults...)
		require.ErrorContains(t, l.Project(t.Context(), succeeded(batch)), "cannot project 1 outcomes", name)
		require.Equal(t, before+calls, l.proxy.count(opStatements), name)
		require.NoError(t, l.Project(t.Context(), succeeded(batch)), "the caller repeats")
		require.Equal(t, trade.Success, l.state(t, batch[0].ID).Status)
	}
	f("no rights: repeating won't help", 1, refuse(http.StatusBadRequest, "AccessDeniedException"))
	f("a table that is not there", 1, answerStatement(`{"Error":{"Code":"ResourceNotFound","Message":"no table"}}`))
	f("a long outage", 1+projectTries, times(1+projectTries, resetBefore)...)
	f("an answer that is too short", 1+projectTries, times(1+projectTries, answerStatement())...)
}

// What is wrong with one outcome is found out by itself: it is refused, whatever its neighbours of the call are.
func TestProjectFindsWhatIsRefused(t *testing.T) {
	l := newFixture(t)
	f := func(name string, calls int, refuse func(r *trade.Request), repair func(r *trade.Request)) {
		t.Helper()
		batch := l.opened(t, 60)
		outcomes, bad := succeeded(batch), batch[7]
		refuse(bad)
		before := l.proxy.count(opStatements)
		var not *trade.NotProjected
		require.ErrorAs(t, l.Project(t.Context(), outcomes), &not, name)
		require.Equal(t, before+calls, l.proxy.count(opStatements), name)
		require.Equal(t, outcomes[7:8], not.Refused, name)
		require.Empty(t, not.Left, name)
		for i, r := range batch {
			want := trade.Success
			if i == 7 {
				want = trade.Pending
			}
			require.Equal(t, want, l.state(t, r.ID).Status, name)
		}
		require.ErrorAs(t, l.Project(t.Context(), outcomes[7:8]), &not, name)
		require.Equal(t, outcomes[7:8], not.Left, "alone it might be the fault of the table: %s", name)
		require.Empty(t, not.Refused, name)
		repair(bad)
		require.NoError(t, l.Project(t.Context(), outcomes))
		require.Equal(t, trade.Success, l.state(t, bad.ID).Status)
	}
	f("an item that may not grow", 3,
		func(r *trade.Request) {
			full := sort.Search(largestItem, func(spare int) bool {
				filler := text(strings.Repeat("x", largestItem-spare))
				return l.update(r.ID, "SET filler = :f", attributes{":f": filler}) == nil
			})
			require.Less(t, full, largestItem)
		},
		func(r *trade.Request) { require.NoError(t, l.update(r.ID, "REMOVE filler", nil)) })
	refuseAbout := func(r *trade.Request) fault {
		return func(c *passing) {
			if bytes.Contains(c.body, []byte(r.ID.String())) {
				refuse(http.StatusBadRequest, "ValidationException")(c)
				return
			}
			c.pass()
		}
	}
	f("a call that is refused for one of its statements", 3+25,
		func(r *trade.Request) { l.proxy.next(opStatements, times(3+25+1, refuseAbout(r))...) }, func(*trade.Request) {})
}

const largestItem = 400 << 10 // bytes that DynamoDB takes

// update changes an item past every rule.
func (l *fixture) update(id trade.RequestID, expression string, values attributes) error {
	_, err := l.client.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
		TableName: aws.String(l.cfg.Table), Key: attributes{attrID: text(id.String())},
		UpdateExpression: aws.String(expression), ExpressionAttributeValues: values,
	})
	return err
}

// One outcome that DynamoDB has no answer for leaves the others projected, and is told apart from them.
func TestProjectTellsWhatIsLeft(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 30)
	outcomes := succeeded(batch)
	last := []byte(batch[29].ID.String())
	l.proxy.next(opStatements, times(2+projectTries, func(c *passing) {
		if bytes.Contains(c.body, last) {
			c.reset()
		}
		c.pass()
	})...)
	var not *trade.NotProjected
	require.ErrorAs(t, l.Project(t.Context(), outcomes), &not)
	require.ElementsMatch(t, outcomes[25:], not.Left, "its call")
	require.Empty(t, not.Refused)
	require.Equal(t, trade.Success, l.state(t, batch[24].ID).Status)
}

// answerStatement answers a call of one statement without DynamoDB.
func answerStatement(answers ...string) fault {
	return func(c *passing) {
		body := `{"Responses":[`
		for _, a := range answers {
			body += a
		}
		c.answer(http.StatusOK, jsonHeader, []byte(body+`]}`))
	}
}

// Several projectors and the orphan reaper may hold different views for a while. The first one stands, for every
// reader.
func TestProjectAtTheSameTime(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 50)
	var projectors sync.WaitGroup
	for n := range 4 {
		outcomes := make([]trade.Decision, len(batch))
		for i, r := range batch {
			outcomes[i] = decided(r, trade.Failed, trade.Code("REASON_"+strconv.Itoa(n)))
		}
		projectors.Go(func() {
			if err := l.Project(t.Context(), outcomes); err != nil {
				t.Error(err)
			}
		})
	}
	projectors.Wait()
	first := make([]attributes, len(batch))
	for i, r := range batch {
		first[i] = l.item(t, r.ID)
		require.Equal(t, trade.Failed, l.state(t, r.ID).Status)
	}
	require.Equal(t, 3*len(batch), l.foundCount(foundConflict)+l.foundCount(foundSame))
	require.NoError(t, l.Project(t.Context(), succeeded(batch)))
	for i, r := range batch {
		require.Equal(t, first[i], l.item(t, r.ID))
	}
}
