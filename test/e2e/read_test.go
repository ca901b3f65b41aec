package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// list returns the items that a query finds, from as many pages as there are.
func (s *deployment) list(t *testing.T, query string) (items []Item) {
	t.Helper()
	for cursor, pages := "", 0; ; pages++ {
		require.Less(t, pages, 100, "the pages never end")
		a := s.get(t, "/api/v1/trades?"+query+cursor)
		require.Equal(t, http.StatusOK, a.Status, string(a.Body))
		var page struct {
			Items      []Item `json:"items"`
			NextCursor string `json:"next_cursor"`
		}
		require.NoError(t, json.Unmarshal(a.Body, &page))
		items = append(items, page.Items...)
		if page.NextCursor == "" {
			return items
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// pendingOf returns the requests of a trade that are shown as PENDING, of which nothing is stored.
func (s *deployment) pendingOf(t *testing.T, tradeID string) (ids []trade.RequestID) {
	t.Helper()
	var a answer
	require.True(t, poll(t, drainLimit, func() bool { // one look-up at a time, for all who ask
		a = s.get(t, "/api/v1/trades/"+tradeID)
		return a.Status != http.StatusNotFound
	}), "nothing is PENDING")
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	require.Empty(t, a.json(t)["items"])
	for _, p := range a.json(t)["pending"].([]any) {
		id, err := trade.ParseRequestID(p.(map[string]any)["request_id"].(string))
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return ids
}

// history returns what is remembered of a trade, page by page.
func (s *deployment) history(t *testing.T, tradeID string) (items []map[string]any) {
	t.Helper()
	for cursor, pages := "", 0; ; pages++ {
		require.Less(t, pages, 100, "the pages never end")
		a := s.get(t, "/api/v1/trades/"+tradeID+"/history?limit=1"+cursor)
		require.Equal(t, http.StatusOK, a.Status, string(a.Body))
		page := a.json(t)
		for _, item := range page["items"].([]any) {
			items = append(items, item.(map[string]any))
		}
		next, more := page["next_cursor"].(string)
		if !more {
			return items
		}
		cursor = "&cursor=" + next
	}
}

// asOf returns the versions of a trade as they were stored at an instant.
func (s *deployment) asOf(t *testing.T, tradeID, instant string) []Item {
	t.Helper()
	a := s.get(t, "/api/v1/trades/"+tradeID+"?as_of="+instant)
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	var then struct {
		Items []Item `json:"items"`
	}
	require.NoError(t, json.Unmarshal(a.Body, &then))
	return then.Items
}
