package loadtest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// tinyStore is a Trade Store in memory, which a test can make break its promises. It decides in the order in which
// requests arrive, at once unless it is told to wait.
type tinyStore struct {
	t   *testing.T
	url *url.URL

	mu       sync.Mutex // protects what follows
	log      []*filed
	requests map[trade.RequestID]*filed
	decided  int              // how many of the log are
	highest  map[string]int32 // version of each trade
	waits    bool             // nothing is decided
	gets     func(out http.ResponseWriter, r *http.Request) (handled bool)
	asked    int
}

// filed is a request in the log.
type filed struct {
	id    trade.RequestID
	trade trade.Trade
	shown shown
	at    logPosition
}

func newStore(t *testing.T) *tinyStore {
	t.Helper()
	s := &tinyStore{t: t, requests: map[trade.RequestID]*filed{}, highest: map[string]int32{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = parseURL(t, srv.URL)
	return s
}

func (s *tinyStore) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost && r.URL.Path == tradesPath {
		s.post(out, r)
		return
	}
	s.asked++
	if s.gets != nil && s.gets(out, r) {
		return
	}
	if text, ok := strings.CutPrefix(r.URL.Path, requestsPath); ok {
		id, err := trade.ParseRequestID(text)
		if err != nil {
			s.t.Errorf("asked for request %q", text)
		}
		s.showRequest(out, s.requests[id])
		return
	}
	tradeID, ok := strings.CutPrefix(r.URL.Path, tradesPath+"/")
	if !ok || r.Method != http.MethodGet {
		s.t.Errorf("%s %s", r.Method, r.URL.Path)
	}
	s.showTrade(out, tradeID)
}

func (s *tinyStore) post(out http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	doc, invalid := trade.Decode(body)
	switch {
	case invalid != nil || r.Header.Get("Content-Type") != contentJSON:
		reply(out, http.StatusBadRequest, map[string]any{"code": "INVALID_TRADE"})
	case doc.Validate(trade.DateOf(time.Now())) != nil:
		reply(out, http.StatusBadRequest, map[string]any{"code": trade.MaturityInPast})
	default:
		f := s.file(doc)
		reply(out, http.StatusAccepted, map[string]any{"request_id": f.id.String(), "status": "PENDING"})
	}
}

// file puts a trade into the log, under a new id.
func (s *tinyStore) file(doc trade.Trade) *filed {
	f := &filed{id: trade.NewRequestID(time.Now()), trade: doc, shown: shown{status: trade.Pending},
		at: logPosition{1, 0, int64(len(s.log))}}
	s.log = append(s.log, f)
	s.requests[f.id] = f
	if !s.waits {
		s.decide()
	}
	return f
}

// decide ends all requests that are PENDING.
func (s *tinyStore) decide() {
	for ; s.decided < len(s.log); s.decided++ {
		f := s.log[s.decided]
		if f.trade.Version < s.highest[f.trade.TradeID] {
			f.shown = shown{trade.Failed, trade.StaleVersion}
			continue
		}
		f.shown, s.highest[f.trade.TradeID] = shown{trade.Success, ""}, f.trade.Version
	}
}

// rows returns the last request of each version that is stored.
func (s *tinyStore) rows() map[trade.Key]*filed {
	rows := map[trade.Key]*filed{}
	for _, f := range s.log {
		if f.shown.status == trade.Success {
			rows[f.trade.Key()] = f
		}
	}
	return rows
}

func (s *tinyStore) showRequest(out http.ResponseWriter, f *filed) {
	if f == nil {
		reply(out, http.StatusNotFound, map[string]any{"code": "NOT_FOUND"})
		return
	}
	said := map[string]any{"request_id": f.id.String(), "status": f.shown.status, "trade_id": f.trade.TradeID,
		"version": f.trade.Version}
	if f.shown.reason != "" {
		said["reason"] = f.shown.reason
	}
	reply(out, http.StatusOK, said)
}

func (s *tinyStore) showTrade(out http.ResponseWriter, tradeID string) {
	items := []map[string]any{}
	rows := s.rows()
	for _, key := range slices.SortedFunc(maps.Keys(rows), trade.Key.Compare) {
		if t := rows[key].trade; t.TradeID == tradeID {
			items = append(items, map[string]any{"trade_id": t.TradeID, "version": t.Version,
				"counterparty_id": t.CounterpartyID, "book_id": t.BookID,
				"maturity_date": t.MaturityDate.String(), "created_date": t.CreatedDate.String()})
		}
	}
	if len(items) == 0 {
		reply(out, http.StatusNotFound, map[string]any{"code": "NOT_FOUND"})
		return
	}
	reply(out, http.StatusOK, map[string]any{"trade_id": tradeID, "items": items})
}

func reply(out http.ResponseWriter, status int, body map[string]any) {
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(body) // a client that has gone has its reasons
}

// with runs f while nobody is being answered.
func (s *tinyStore) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// send sends the operations of a plan from number from on, one after the other, and keeps what came of each.
func (s *tinyStore) send(p *Plan, into *Results, from, to uint64) {
	s.t.Helper()
	for seq := from; seq < to; seq++ {
		op := p.Op(seq)
		result := Result{Seq: seq, Kind: op.Kind, Due: into.Now(), Sent: into.Now()}
		into.Sending()
		if path, err := op.path(into); err == nil {
			req, err := http.NewRequestWithContext(s.t.Context(), op.Method, s.url.String()+path,
				strings.NewReader(string(op.Body)))
			require.NoError(s.t, err)
			req.Header.Set("Content-Type", op.ContentType)
			res, err := http.DefaultClient.Do(req)
			require.NoError(s.t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(s.t, err)
			_ = res.Body.Close()
			result.answered(res.StatusCode, body)
		}
		result.Done = into.Now()
		into.Add(result)
	}
}
