package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/kafka"
	"tradestore/trade"
)

// feed is a client of a stream of events that reads as a browser does.
type feed struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Reader
	id   string
	last string // the id that a browser would send when it reconnects: it counts from the end of its block on
}

type event struct{ kind, data string }

// follow opens a stream.
func (a *api) follow(path, lastEventID string) *feed {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 3*giveUpAfter)
	a.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.addr+path, http.NoBody)
	require.NoError(a.t, err)
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(a.t, 200, resp.StatusCode)
	require.Equal(a.t, mediaEvents, resp.Header.Get("Content-Type"))
	return &feed{t: a.t, resp: resp, in: bufio.NewReader(resp.Body), id: lastEventID, last: lastEventID}
}

// next returns the next event; ok is false at a clean end.
func (f *feed) next() (e event, ok bool) {
	f.t.Helper()
	for {
		line, err := f.in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return e, false
		}
		require.NoError(f.t, err)
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if name == "" {
			f.last = f.id
		}
		switch {
		case name == "" && e.data != "":
			return e, true
		case name == "event":
			e.kind = value
		case name == "data":
			e.data = value
		case name == "id":
			f.id = value
		}
	}
}

func (f *feed) wants(kind, part string) {
	f.t.Helper()
	e, ok := f.next()
	require.True(f.t, ok, "the stream has ended")
	assert.Equal(f.t, kind, e.kind)
	assert.Contains(f.t, e.data, part)
}

func (f *feed) ends() {
	f.t.Helper()
	e, ok := f.next()
	require.False(f.t, ok, "%v", e)
}

// decide appends to the journal the outcome of the trade's next request.
func (w *fake) decide(tradeID, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := kafka.Partition(tradeID, testPartitions)
	state := trade.RequestState{ID: trade.NewRequestID(testNow), Status: trade.Failed, Reason: trade.StaleVersion,
		Detail: detail, TradeID: tradeID, Version: 1, AcceptedAt: testNow, DecidedAt: testNow}
	w.journal = append(w.journal,
		trade.Decision{Generation: testGeneration, Partition: p, Offset: w.applied[p], RequestState: state})
	w.applied[p] += 1 + rand.Int64N(8)/7 // logs have holes
}

func TestEventsOfARequest(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := a.post(tradeJSON("T1", 1)).accepted(t)
	path := requestsPath + id.String() + "/events"
	whole, resumed := a.follow(path, ""), a.follow(path, "pending")
	whole.wants("pending", `"status":"PENDING"`)
	assert.Equal(t, "pending", whole.last)
	eventually(t, func() bool { return a.waitedFor() == 1 })
	a.end(id, trade.Success)
	for _, f := range []*feed{whole, resumed} {
		f.wants("success", `{"request_id":"`+id.String()+`","status":"SUCCESS"`)
		f.ends()
	}
	late := a.follow(path, "")
	late.wants("success", `"SUCCESS"`)
	late.ends()

	assert.Equal(t, 204, a.send("GET", path, "", "Last-Event-ID: success").status, "a browser stops")
	assert.Equal(t, 200, a.send("HEAD", path, "").status)
	a.send("GET", path, "", "Last-Event-ID: 17").problem(t, 400, InvalidCursor)
	a.get(requestsPath+"x/events").problem(t, 400, InvalidRequestID)
	a.get(requestsPath+trade.NewRequestID(testNow).String()+"/events").problem(t, 404, NotFound)
	eventually(t, func() bool { return a.srv.streams.count() == 0 })
	counted(t, 4, a.srv.m.events)
}

func TestEventsOfATrade(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.decide("T1", "long ago")
	f := a.follow(tradeEvents+"?trade_id=T1", "")
	second := a.follow(tradeEvents+"?trade_id=T1", "")
	for i := range 5 {
		a.stores.decide(fmt.Sprint("other", i), "another trade")
		a.stores.decide("T1", fmt.Sprint("outcome ", i))
	}
	for i := range 5 {
		f.wants("failed", fmt.Sprintf(`"outcome %d"`, i))
		second.wants("failed", fmt.Sprintf(`"outcome %d"`, i))
	}
	read := func(lastEventID string) reply {
		return a.send("GET", tradeEvents+"?trade_id=T1", "", "Last-Event-ID: "+lastEventID)
	}
	read("x").problem(t, 400, InvalidCursor)
	read(f.last[:len(f.last)-1]+"0").problem(t, 400, InvalidCursor)
	a.send("GET", tradeEvents+"?trade_id=T2", "", "Last-Event-ID: "+f.last).problem(t, 400, InvalidCursor)
	at := func(generation, partition int32, offset int64) string {
		return string(positionID(&trade.Position{Generation: generation, Partition: partition, NextOffset: offset}, "T1"))
	}
	p := kafka.Partition("T1", testPartitions)
	read(at(testGeneration, p+1, 0)).problem(t, 400, InvalidCursor)
	read(at(testGeneration, p, 1000)).problem(t, 400, InvalidCursor)
	read(at(testGeneration+1, p, 0)).problem(t, 400, InvalidCursor)
	read(at(testGeneration-2, p, 0)).problem(t, 400, InvalidCursor)
	a.get(tradeEvents).problem(t, 400, InvalidQuery)
	a.get(tradeEvents+"?trade_id=-").problem(t, 400, InvalidQuery)

	// From the generation before: what is left of it, then all of the newest.
	a.stores.set(func() {
		old := a.stores.journal[0]
		old.Generation, old.Partition, old.Offset, old.Detail = testGeneration-1, 9, 70, "of the topic before"
		a.stores.journal = append(a.stores.journal, old)
	})
	f = a.follow(tradeEvents+"?trade_id=T1", at(testGeneration-1, 9, 70))
	f.wants("failed", "of the topic before")
	f.wants("failed", "long ago")
	f.wants("failed", "outcome 0")
}

// However often a client is cut, also before its first event, it sees each outcome once and in order.
func TestAFollowerResumes(t *testing.T) {
	t.Parallel()
	const outcomes = 6 * followRows
	a := start(t, func(cfg *Config, _ *Deps) { cfg.heartbeat = time.Millisecond })
	f := a.follow(tradeEvents+"?trade_id=T1", "")
	block := make([]byte, len("retry: 1000\n\nid: "))
	_, err := io.ReadFull(f.in, block)
	require.NoError(t, err)
	require.Equal(t, "retry: 1000\n\nid: ", string(block))
	id, err := f.in.ReadString('\n')
	require.NoError(t, err)
	empty, err := f.in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "\n", empty, "the id counts from here on")
	f.last = strings.TrimSpace(id)
	go func() {
		for i := range outcomes {
			a.stores.decide("T1", fmt.Sprintf("outcome %d.", i))
			a.stores.decide("T2", "another trade")
		}
	}()
	for seen := 0; seen < outcomes; {
		_ = f.resp.Body.Close()
		f = a.follow(tradeEvents+"?trade_id=T1", f.last)
		for range rand.IntN(3 * followRows) {
			if seen < outcomes {
				f.wants("failed", fmt.Sprintf(`"outcome %d."`, seen))
				seen++
			}
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxStreams = 1 })
	f := a.follow(tradeEvents+"?trade_id=T1", "")
	refused := a.get(tradeEvents + "?trade_id=T1")
	refused.noEffect(t, TooManyStreams)
	assert.Contains(t, refused.body, "at most 1 streams")
	require.NoError(t, f.resp.Body.Close()) // a client that leaves frees its slot
	eventually(t, func() bool { return a.srv.streams.count() == 0 })
	f = a.follow(tradeEvents+"?trade_id=T1", "")
	ctx, cancel := context.WithTimeout(t.Context(), giveUpAfter)
	defer cancel()
	require.NoError(t, a.srv.Drain(ctx))
	f.ends()
}

// A client that does not read is cut; what it has not taken is not kept.
func TestASlowFollowerIsCut(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.WriteTimeout, cfg.heartbeat = 100*time.Millisecond, 10*time.Millisecond
	})
	conn, err := net.Dial("tcp", a.addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET "+tradeEvents+"?trade_id=T1 HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	fast := a.follow(tradeEvents+"?trade_id=T1", "")
	eventually(t, func() bool { return a.srv.streams.count() == 2 })
	large := strings.Repeat("x", 100_000)
	for i := range 200 {
		a.stores.decide("T1", fmt.Sprint(i, large))
	}
	for i := range 200 {
		fast.wants("failed", fmt.Sprintf(`"%dxx`, i))
	}
	eventually(t, func() bool { return a.srv.streams.count() == 1 }, "the other one is open")
}
