package main

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
	"tradestore/trade"
)

func TestPositionsFollowTheBatches(t *testing.T) {
	s := newPositionStore(trade.TopicID{7}, 3)
	apply := func(spans ...trade.Span) error {
		_, err := s.Apply(t.Context(), &trade.Batch{Spans: spans})
		return err
	}
	require.NoError(t, apply(trade.Span{Partition: 0, From: 0, Next: 5},
		trade.Span{Partition: 2, From: 0, Next: 1, LeaderEpoch: 4}))
	require.NoError(t, apply(trade.Span{Partition: 0, From: 5, Next: 6}))
	require.Equal(t, trade.Fenced, trade.ClassOf(apply(trade.Span{Partition: 2, From: 0, Next: 1})),
		"a batch that comes twice")
	all, err := s.Positions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []trade.Position{
		{TopicID: trade.TopicID{7}, Generation: 1, Partition: 0, NextOffset: 6},
		{TopicID: trade.TopicID{7}, Generation: 1, Partition: 1, LeaderEpoch: -1},
		{TopicID: trade.TopicID{7}, Generation: 1, Partition: 2, NextOffset: 1, LeaderEpoch: 4},
	}, all)
}

// The no-op server answers as the product does, so that the generator has as much to read.
func TestNoopServerAccepts(t *testing.T) {
	h := testHarness(t)
	require.NoError(t, makeLimit(t.Context(), h))
	res, err := http.Post("http://"+h.limit.api+"/api/v1/trades", "application/json", nil)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	var said struct {
		RequestID string       `json:"request_id"`
		Status    trade.Status `json:"status"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&said))
	_, err = trade.ParseRequestID(said.RequestID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, said.Status)

	got, err := h.attack(t.Context(), h.limit, 100*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, got.rate)
	require.Positive(t, got.count)
	require.Zero(t, got.stored, "nothing is stored")
	require.Zero(t, got.other)
}

func TestSummary(t *testing.T) {
	began := time.Now()
	add := func(into *loadtest.Results, seq uint64, status uint16, done time.Duration, code trade.Code) {
		into.Add(loadtest.Result{Seq: seq, Status: status, Sent: time.Second, Done: done, Code: code})
	}
	results := loadtest.NewResults(began)
	_, err := summary(results)
	require.ErrorContains(t, err, "nothing was answered")
	add(results, 0, 503, time.Second, "QUEUE_FULL")
	_, err = summary(results)
	require.ErrorContains(t, err, "status 503 QUEUE_FULL")
	add(results, 1, 202, 2*time.Second, "")
	add(results, 2, 202, 4*time.Second, "")
	add(results, 3, 0, 3*time.Second, "")
	s, err := summary(results)
	require.NoError(t, err)
	require.Equal(t, sample{rate: 0.5, count: 2, other: 2, wait: 2 * time.Second}, s)
}

// A server that accepts nothing has no rate.
func TestAttackOnNobody(t *testing.T) {
	h := testHarness(t)
	address, err := freeAddress()
	require.NoError(t, err)
	_, err = h.attack(t.Context(), target{name: "nobody", api: address}, 50*time.Millisecond)
	require.ErrorContains(t, err, "nobody: nothing is accepted: status 0")
}
