package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// everyPartition has those of the tests' requests.
var everyPartition = []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}

func TestPendingListsTheOldest(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 250)
	require.NoError(t, l.Project(t.Context(), succeeded(batch[:120])))
	f := func(before time.Time, limit int, want []*trade.Request) {
		t.Helper()
		got, err := l.Pending(t.Context(), everyPartition, before, limit)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i, r := range want {
			require.Equal(t, conformance.PendingRequest(r), got[i])
		}
	}
	f(testNow.Add(time.Hour), 1000, batch[120:])
	f(testNow.Add(time.Hour), 7, batch[120:127])
	f(batch[130].AcceptedAt, 1000, batch[120:130])
	f(testNow, 1000, nil)
}

// An item whose call was held in the network lands long after others of its age were looked for. It is found like any
// other, with a key and without.
func TestPendingFindsWhatLandsLate(t *testing.T) {
	l := newFixture(t)
	plain, keyed := newRequests(1)[0], conformance.NewKeyedRequest("k", 0)
	later := endOfTime
	f := func(want ...trade.RequestID) {
		t.Helper()
		got, err := l.Pending(t.Context(), everyPartition, later, 10)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i, id := range want {
			require.Equal(t, id, got[i].ID)
		}
	}
	hold := func(op string, open func()) (land func()) {
		release, arrived := make(chan struct{}), make(chan struct{})
		l.proxy.next(op, late(release, arrived))
		open()
		return func() {
			close(release)
			<-arrived
		}
	}
	landPlain := hold(opBatchWrite, func() {
		err := l.Open(within(t, 200*time.Millisecond), []*trade.Request{plain})[0]
		require.Error(t, err)
		require.NotErrorIs(t, err, trade.ErrNotOpened)
	})
	landKeyed := hold(opPut, func() {
		err := l.OpenKeyed(within(t, 200*time.Millisecond), []*trade.KeyedRequest{keyed})[0]
		require.Error(t, err)
		require.NotErrorIs(t, err, trade.ErrNotOpened)
	})
	f()
	landPlain()
	f(plain.ID)
	landKeyed()
	if keyed.AcceptedAt.Before(plain.AcceptedAt) {
		f(keyed.ID, plain.ID)
	} else {
		f(plain.ID, keyed.ID)
	}
}

// However many requests are PENDING, a call reads about as many entries as it was asked for, in pages, also where one
// shard has most of the oldest.
func TestPendingReadsPages(t *testing.T) {
	l := newFixture(t)
	batch := newRequests(2000)
	for i, r := range batch {
		if i%2 == 0 {
			r.ID[len(r.ID)-1] = 0
		}
	}
	require.Nil(t, l.Open(t.Context(), batch))
	var mu sync.Mutex // protects what follows
	entries, largest := 0, 0
	l.proxy.next(opQuery, times(1000, func(c *passing) {
		var in struct{ Limit int }
		var out struct{ Count int }
		status, header, body := c.forward()
		assert.NoError(t, errors.Join(json.Unmarshal(c.body, &in), json.Unmarshal(body, &out)))
		mu.Lock()
		entries, largest = entries+out.Count, max(largest, in.Limit)
		mu.Unlock()
		c.answer(status, header, body)
	})...)
	const limit = 320
	got, err := l.Pending(t.Context(), everyPartition, testNow.Add(time.Hour), limit)
	require.NoError(t, err)
	require.Len(t, got, limit)
	for i := range got {
		require.Equal(t, batch[i].ID, got[i].ID)
	}
	require.LessOrEqual(t, entries, 3*limit, "of 2,000")
	require.LessOrEqual(t, largest, limit/8)
	t.Logf("%d calls read %d entries for %d requests", l.proxy.count(opQuery), entries, limit)
}

// The index may lag behind: what it says is asked of the table.
func TestPendingBelievesTheTable(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 3)
	l.proxy.next(opBatchGet, func(c *passing) {
		if err := l.Project(t.Context(), succeeded(batch[:1])); err != nil { // after the index was read
			t.Error(err)
		}
		c.pass()
	})
	got, err := l.Pending(t.Context(), everyPartition, testNow.Add(time.Hour), 10)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, batch[1].ID, got[0].ID)
}

func TestPendingOnABadDay(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 2)
	l.proxy.next(opQuery, throttle, resetBefore)
	l.proxy.next(opBatchGet, throttle, func(c *passing) {
		c.answer(http.StatusOK, jsonHeader,
			fmt.Appendf(nil, `{"Responses":{},"UnprocessedKeys":{%q:{"ConsistentRead":true,"Keys":[{"request_id":{"S":%q}}]}}}`,
				l.cfg.Table, batch[0].ID))
	})
	got, err := l.Pending(t.Context(), everyPartition, testNow.Add(time.Hour), 10)
	require.NoError(t, err)
	require.Len(t, got, 1, "the one whose key was left out was read again")
	require.Equal(t, batch[0].ID, got[0].ID)
}

// insert writes an item past every rule, as a stranger with rights in the account could.
func (l *fixture) insert(t testing.TB, r *trade.Request, change func(attributes)) {
	t.Helper()
	item := pendingItem(r)
	change(item)
	_, err := l.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(l.cfg.Table), Item: item})
	require.NoError(t, err)
}

func TestItemsThatMakeNoSense(t *testing.T) {
	l := newFixture(t)
	f := func(change func(attributes)) {
		t.Helper()
		r := newRequests(1)[0]
		l.insert(t, r, change)
		_, err := l.Get(t.Context(), r.ID)
		require.ErrorContains(t, err, "missing or not what it should be")
		require.NotErrorIs(t, err, trade.ErrNotFound)
	}
	f(func(i attributes) { delete(i, attrStatus) })
	f(func(i attributes) { i[attrStatus] = text("DONE") })
	f(func(i attributes) { i[attrStatus] = text("SUCCESS") }) // without a time
	f(func(i attributes) { i[attrVersion] = text("1") })
	f(func(i attributes) { i[attrVersion] = number(1 << 40) })
	f(func(i attributes) { i[attrTradeID] = &types.AttributeValueMemberBOOL{Value: true} })
	f(func(i attributes) { i[attrAcceptedAt] = text("yesterday") })
	f(func(i attributes) { i[attrReason] = number(1) })

	good := l.opened(t, 1)
	r := newRequests(1)[0]
	l.insert(t, r, func(i attributes) { delete(i, attrPartition) })
	got, err := l.Pending(t.Context(), everyPartition, testNow.Add(time.Hour), 100)
	require.NoError(t, err)
	for _, p := range got {
		require.NotEqual(t, r.ID, p.ID)
	}
	require.Contains(t, got, conformance.PendingRequest(good[0]))

	bad := newRequests(1)[0]
	l.insert(t, bad, func(i attributes) { i[attrStatus] = text("DONE") })
	require.NoError(t, l.Project(t.Context(), succeeded(good)))
	ended, err := l.Ended(t.Context(), []trade.RequestID{bad.ID, good[0].ID})
	require.NoError(t, err, "one invalid item keeps no other client waiting")
	require.Equal(t, []trade.RequestState{l.state(t, good[0].ID)}, ended)

	l.insert(t, r, func(i attributes) { i[attrExpiresAt] = text("never") })
	require.Equal(t, trade.Pending, l.state(t, r.ID).Status)
}

func TestReadsAreRepeated(t *testing.T) {
	l := newFixture(t)
	r := l.opened(t, 1)[0]
	l.proxy.next(opGet, resetBefore, throttle)
	require.Equal(t, trade.Pending, l.state(t, r.ID).Status)
	require.Equal(t, 3, l.proxy.count(opGet))
	require.NoError(t, l.Ping(t.Context()))
}
