package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/openapi/contract"
	"tradestore/kafka"
	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMain(m *testing.M) { stack.Main(m) }

const (
	testTopic      = "trades-inbound"
	testPartitions = 4
	testGeneration = 2
	fakeWindow     = 1000
	giveUpAfter    = 10 * time.Second // on something that should happen at once
)

var (
	testNow  = time.Date(2026, 11, 22, 23, 59, 58, 123456789, time.UTC)
	jsonType = "Content-Type: application/json"
)

// eventually demands that ok becomes true soon.
func eventually(t testing.TB, ok func() bool, args ...any) {
	t.Helper()
	require.Eventually(t, ok, giveUpAfter, time.Millisecond, args...)
}

// api is a server on a real socket, in front of a real producer and an embedded broker.
type api struct {
	t       testing.TB
	srv     *Server
	stores  *fake
	cluster *kfake.Cluster
	reg     *prometheus.Registry
	log     *lockedBuffer
	addr    string
	client  *http.Client
	checked *contract.Transport // of client: an exchange that the description does not allow fails the test
	served  chan error          // what Serve returned

	answered chan struct{} // closed by tests that hold something until the client has its answer
}

// start runs a server for the test. change may be nil.
func start(t testing.TB, change func(*Config, *Deps)) *api {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(testPartitions, testTopic))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	a := &api{t: t, cluster: cluster, stores: newFake(t), reg: prometheus.NewRegistry(), log: &lockedBuffer{},
		served: make(chan error, 1), answered: make(chan struct{})}
	producer, err := kafka.NewProducer(kafka.Config{Brokers: cluster.ListenAddrs(), Topic: testTopic, ClientID: "server",
		DeliveryTimeout: 3 * time.Second}, a.reg, zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(producer.Close)
	cfg := DefaultConfig()
	cfg.Topic, cfg.Partitions, cfg.AcceptDeadline = testTopic, testPartitions, giveUpAfter
	deps := Deps{Verified: verified, Requests: a.stores, Keys: a.stores, LookUp: a.stores, Trades: a.stores,
		Past: a.stores, Journal: a.stores,
		Kafka: producer, Registry: a.reg, Log: zerolog.New(a.log).Level(zerolog.DebugLevel),
		Now: func() time.Time { return testNow }}
	if change != nil {
		change(&cfg, &deps)
	}
	a.srv, err = New(cfg, deps)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a.addr = ln.Addr().String()
	report := func(err error) { t.Error(err) }
	a.checked = &contract.Transport{Base: &http.Transport{MaxIdleConnsPerHost: 256}, Report: report}
	a.client = &http.Client{Transport: a.checked, Timeout: 3 * giveUpAfter}
	go func() { a.served <- a.srv.Serve(ln) }()
	t.Cleanup(func() {
		a.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
		defer cancel()
		_ = a.srv.Drain(ctx)
	})
	return a
}

// reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of the connection; the rest is empty then
}

// send makes a request over a kept connection. Headers are "Name: value" lines.
func (a *api) send(method, path, body string, headers ...string) reply {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+a.addr+path, in)
	require.NoError(a.t, err)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	return read(resp)
}

func (a *api) post(body string, headers ...string) reply {
	return a.send("POST", tradesPath, body, append(headers, jsonType)...)
}

func (a *api) get(path string) reply { return a.send("GET", path, "") }

// raw sends bytes on a connection of its own and reads one answer, which the description has to allow; closed says
// whether the server hung up after it.
func (a *api) raw(message string) (r reply, closed bool) {
	conn, err := net.Dial("tcp", a.addr)
	require.NoError(a.t, err)
	defer conn.Close()
	require.NoError(a.t, conn.SetDeadline(time.Now().Add(giveUpAfter)))
	go func() { _, _ = io.WriteString(conn, message) }() // the server may answer before it has read everything
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	for err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(in, nil)
	}
	if err != nil {
		return reply{err: err}, true
	}
	r = read(resp)
	a.checkRaw(message, resp, r)
	if resp.Close {
		_, err = in.ReadByte()
		require.Error(a.t, err, "Connection: close, but more bytes follow")
	}
	return r, resp.Close
}

// checkRaw holds an exchange against the description. A message that can't be read belongs to no operation.
func (a *api) checkRaw(message string, resp *http.Response, r reply) {
	described, err := contract.Load()
	require.NoError(a.t, err)
	x := contract.Exchange{Status: r.status, AnswerHeader: resp.Header}
	if contract.IsJSON(resp.Header) {
		x.Answer = []byte(r.body)
	}
	if req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(message))); err == nil {
		x.Method, x.Target, x.Header = req.Method, req.URL.RequestURI(), req.Header
	}
	require.NoError(a.t, described.Check(&x))
}

func read(resp *http.Response) reply {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp.StatusCode, resp.Header, string(body), err}
}

// fields decodes the body, which must be one JSON object.
func (r reply) fields(t testing.TB) map[string]any {
	t.Helper()
	require.NoError(t, r.err)
	var m map[string]any
	require.NoErrorf(t, json.Unmarshal([]byte(r.body), &m), "%s", r.body)
	return m
}

// problem demands a problem document of this status and code, with all that every one must have.
func (r reply) problem(t testing.TB, status int, code trade.Code) map[string]any {
	t.Helper()
	m := r.fields(t)
	require.Equalf(t, status, r.status, "%s", r.body)
	require.Equalf(t, string(code), m["code"], "%s", r.body)
	require.Equal(t, problemMedia, r.header.Get("Content-Type"))
	require.Equal(t, problemPrefix+string(code), m["type"])
	require.InDelta(t, status, m["status"], 0)
	require.NotEmpty(t, m["title"])
	require.NotEmpty(t, m["detail"])
	require.NotEmpty(t, m["correlation_id"])
	require.Equal(t, r.header.Get("X-Correlation-ID"), m["correlation_id"])
	if status == 503 || status == 429 {
		require.NotEmpty(t, r.header.Get("Retry-After"))
	}
	return m
}

// unknown demands a 503 that carries a request id: poll it.
func (r reply) unknown(t testing.TB) trade.RequestID {
	t.Helper()
	m := r.problem(t, 503, DeliveryUnknown)
	id, err := trade.ParseRequestID(m["request_id"].(string))
	require.NoError(t, err)
	require.Equal(t, requestsPath+id.String(), m["instance"])
	return id
}

// noEffect demands a 503 without a request id: the call had no effect.
func (r reply) noEffect(t testing.TB, code trade.Code) {
	t.Helper()
	require.NotContains(t, r.problem(t, 503, code), "request_id")
}

// accepted demands a 202 and returns its request id.
func (r reply) accepted(t testing.TB) trade.RequestID {
	t.Helper()
	m := r.fields(t)
	require.Equalf(t, 202, r.status, "%s", r.body)
	id, err := trade.ParseRequestID(m["request_id"].(string))
	require.NoError(t, err)
	require.Equal(t, requestsPath+id.String(), r.header.Get("Location"))
	return id
}

// records demands that the log holds n records, and reads them: in order within each partition.
func (a *api) records(n int) []trade.Record {
	a.t.Helper()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(a.cluster.ListenAddrs()...), kgo.ConsumeTopics(testTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(a.t, err)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
	defer cancel()
	require.Eventually(a.t, func() bool {
		ends, err := kadm.NewClient(consumer).ListEndOffsets(ctx, testTopic)
		require.NoError(a.t, err)
		have := 0
		ends.Each(func(end kadm.ListedOffset) { have += int(end.Offset) })
		require.LessOrEqual(a.t, have, n)
		return have == n
	}, giveUpAfter, 10*time.Millisecond)
	var records []trade.Record
	for len(records) < n {
		fetches := consumer.PollFetches(ctx)
		require.NoErrorf(a.t, ctx.Err(), "%d of %d records came", len(records), n)
		fetches.EachRecord(func(r *kgo.Record) {
			record, err := kafka.Decode(r)
			require.NoError(a.t, err)
			records = append(records, record)
		})
	}
	return records
}

// counted demands the value of one series.
func counted(t testing.TB, want float64, c prometheus.Collector) {
	t.Helper()
	require.InDelta(t, want, testutil.ToFloat64(c), 0)
}

// tradeOf is a good trade, and tradeJSON the same as a body.
func tradeOf(id string, version int) trade.Trade {
	return trade.Trade{TradeID: id, Version: int32(version), CounterpartyID: "CP-1", BookID: "B1",
		MaturityDate: trade.DateOf(testNow), CreatedDate: trade.DateOf(testNow) - 1}
}

func tradeJSON(id string, version int) string {
	t := tradeOf(id, version)
	return string(trade.AppendJSON(nil, &t))
}

// fake stands in for both stores, and fails the test where the server breaks their contract. Faults are functions.
type fake struct {
	t testing.TB

	mu         sync.Mutex
	opened     map[trade.RequestID]trade.Request
	states     map[trade.RequestID]trade.RequestState
	keys       map[trade.RequestID]trade.KeyedRequest
	stored     []trade.Trade // ascending by key
	opens      int
	submitted  []trade.HistoryEntry
	asOf       time.Time    // of the last AsOf
	filter     trade.Filter // of the last List
	lookUps    int
	largest    int // batch
	endedReads int
	onOpen     func(context.Context, []*trade.Request) []error
	onLookUp   func(context.Context) error
	onRead     func() error
	applied    [testPartitions]int64 // positions
	journal    []trade.Decision

	onPending error        // of PendingOf
	onList    func() error // of each List; its calls come one after the other

	onOpenKeyed func() error // of each request
	onGetKeyed  func() error
}

var (
	_ RequestStore  = (*fake)(nil)
	_ KeyedStore    = (*fake)(nil)
	_ VersionLookUp = (*fake)(nil)
	_ TradeReader   = (*fake)(nil)
	_ PastReader    = (*fake)(nil)
	_ Journal       = (*fake)(nil)

	storedBy = trade.NewRequestID(testNow) // of everything that is stored

	errDown = errors.New("connection refused: secret-host:5432")
)

func newFake(t testing.TB) *fake {
	return &fake{t: t, opened: map[trade.RequestID]trade.Request{}, states: map[trade.RequestID]trade.RequestState{},
		keys: map[trade.RequestID]trade.KeyedRequest{}}
}

func (w *fake) Open(ctx context.Context, batch []*trade.Request) []error {
	w.mu.Lock()
	w.opens++
	w.largest = max(w.largest, len(batch))
	fault := w.onOpen
	if _, limited := ctx.Deadline(); !limited || len(batch) == 0 {
		w.t.Errorf("Open without a time limit, or of nothing")
	}
	for _, r := range batch {
		if _, again := w.opened[r.ID]; again || r.ID.IsZero() {
			w.t.Errorf("Open of %s, which is not fresh", r.ID)
		}
		if at := r.AcceptedAt; at.Location() != time.UTC || at != at.Truncate(time.Microsecond) ||
			r.BusinessDate != r.AcceptedOn() {
			w.t.Errorf("Open of %s at %v for %v", r.ID, r.AcceptedAt, r.BusinessDate)
		}
		w.opened[r.ID] = *r
	}
	w.mu.Unlock()
	if fault != nil {
		return fault(ctx, batch)
	}
	return nil
}

func (w *fake) Get(_ context.Context, id trade.RequestID) (trade.RequestState, error) {
	if err := w.fault(); err != nil {
		return trade.RequestState{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if state, ok := w.states[id]; ok {
		return state, nil
	}
	r, ok := w.opened[id]
	if !ok {
		return trade.RequestState{}, trade.ErrNotFound
	}
	return trade.RequestState{ID: id, Status: trade.Pending, TradeID: r.Trade.TradeID, Version: r.Trade.Version,
		AcceptedAt: r.AcceptedAt}, nil
}

func (w *fake) Ended(ctx context.Context, ids []trade.RequestID) (ended []trade.RequestState, err error) {
	if _, limited := ctx.Deadline(); !limited || len(ids) == 0 || len(ids) > maxEndedIDs {
		w.t.Errorf("Ended without a time limit, or of %d", len(ids))
	}
	if err := w.fault(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endedReads++
	for _, id := range ids {
		if state, ok := w.states[id]; ok && state.Status.Terminal() {
			ended = append(ended, state)
		}
	}
	return ended, nil
}

func (w *fake) Positions(context.Context) (all []trade.Position, err error) {
	if err := w.fault(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, next := range w.applied {
		all = append(all, trade.Position{Generation: testGeneration, Partition: int32(p), NextOffset: next})
	}
	return all, nil
}

func (w *fake) After(_ context.Context, from []trade.Position, limit int) (found []trade.Decision, err error) {
	if err := w.fault(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range from {
		n := 0
		for _, o := range w.journal {
			if o.Generation == at.Generation && o.Partition == at.Partition && o.Offset >= at.NextOffset && n < limit {
				found = append(found, o)
				n++
			}
		}
	}
	return found, nil
}

func (w *fake) MaxVersions(ctx context.Context, ids []string) (map[string]int32, error) {
	w.mu.Lock()
	w.lookUps++
	fault := w.onLookUp
	w.mu.Unlock()
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] || id == "" {
			w.t.Errorf("MaxVersions asked for %q twice, or for nothing", id)
		}
		seen[id] = true
	}
	if fault != nil {
		if err := fault(ctx); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maxima := map[string]int32{}
	for _, t := range w.stored {
		if seen[t.TradeID] {
			maxima[t.TradeID] = max(maxima[t.TradeID], t.Version)
		}
	}
	return maxima, nil
}

func (w *fake) Versions(_ context.Context, id string, after int32, limit int) (
	page []trade.Trade, next int32, err error) {
	if err := w.fault(); err != nil {
		return nil, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.stored {
		switch {
		case t.TradeID != id || t.Version <= after:
		case len(page) == limit:
			return page, page[limit-1].Version, nil
		default:
			page = append(page, t)
		}
	}
	return page, 0, nil
}

func (w *fake) Newest(ctx context.Context, ids []string) (map[string]trade.Stored, error) {
	if err := w.fault(); err != nil {
		return nil, err
	}
	if _, limited := ctx.Deadline(); !limited || len(ids) == 0 {
		w.t.Errorf("Newest without a time limit, or of nothing")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := map[string]trade.Stored{}
	for _, t := range w.stored {
		if slices.Contains(ids, t.TradeID) {
			newest[t.TradeID] = trade.Stored{Version: t.Version, RequestID: storedBy}
		}
	}
	return newest, nil
}

func (w *fake) PendingOf(_ context.Context, id string, limit int) (found []trade.PendingRequest, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onPending != nil {
		return nil, w.onPending
	}
	for _, r := range w.opened {
		if r.Trade.TradeID == id && len(found) < limit {
			found = append(found,
				trade.PendingRequest{ID: r.ID, TradeID: id, Version: r.Trade.Version, AcceptedAt: r.AcceptedAt})
		}
	}
	return found, nil
}

func (w *fake) AsOf(ctx context.Context, id string, at time.Time, after int32, limit int) (
	page []trade.Trade, next int32, err error) {
	w.set(func() { w.asOf = at })
	if at.After(testNow) {
		return nil, 0, trade.ErrFuture
	}
	return w.Versions(ctx, id, after, limit)
}

func (w *fake) History(_ context.Context, id string, after trade.HistoryPosition, limit int) (
	page []trade.HistoryEntry, next trade.HistoryPosition, err error) {
	if err := w.fault(); err != nil {
		return nil, next, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.submitted {
		switch {
		case s.TradeID != id || after != (trade.HistoryPosition{}) && s.Position().Offset <= after.Offset:
		case len(page) == limit:
			return page, page[limit-1].Position(), nil
		default:
			page = append(page, s)
		}
	}
	return page, next, nil
}

// List looks at fakeWindow rows, so that short pages occur.
func (w *fake) List(_ context.Context, f trade.Filter, after trade.Key, limit int) (
	page []trade.Trade, next trade.Key, err error) {
	if err := w.fault(); err != nil {
		return nil, next, err
	}
	w.mu.Lock()
	onList := w.onList
	w.mu.Unlock()
	if onList != nil {
		if err := onList(); err != nil {
			return nil, next, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filter = f
	looked := 0
	for _, t := range w.stored {
		if !after.Less(t.Key()) || !strings.HasPrefix(t.TradeID, f.Prefix) {
			continue
		}
		if len(page) == limit || looked == fakeWindow {
			return page, next, nil
		}
		looked++
		next = t.Key()
		if (f.BookID == "" || f.BookID == t.BookID) && t.MaturityDate >= f.MaturityFrom && t.MaturityDate <= f.MaturityTo {
			page = append(page, t)
		}
	}
	return page, trade.Key{}, nil
}

func (w *fake) fault() error {
	w.mu.Lock()
	fault := w.onRead
	w.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault()
}

// set changes the fake while the server runs.
func (w *fake) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// calls returns how often the stores of the accept path were called.
func (w *fake) calls() (lookUps, opens int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lookUps, w.opens
}

// all answers every request of a batch with the same error.
func all(err error) func(context.Context, []*trade.Request) []error {
	return func(_ context.Context, batch []*trade.Request) []error {
		errs := make([]error, len(batch))
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
}
