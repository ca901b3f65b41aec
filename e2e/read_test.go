package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// list returns the items that a query finds, from as many pages as there are.
func (s *stack) list(t *testing.T, query string) (items []Item) {
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
