package loadtest

import (
	"iter"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"tradestore/trade"
)

// Results keeps the result of each operation of an attack, by its number. It is safe for concurrent use; readers do not
// block writers.
type Results struct {
	began  time.Time
	live   live
	latest atomic.Uint64 // the number after that of an operation accepted lately; 0: none was

	grow  sync.Mutex // held while pages is replaced by a longer list of the same pages
	pages atomic.Pointer[[]*page]
}

const pageSize = 4096

// page holds the results of consecutive operations. Each result has one writer and is visible once done is set.
type page struct {
	results [pageSize]Result
	done    [pageSize]atomic.Bool
}

// NewResults returns the empty results of an attack that begins at a time with a monotonic clock reading. All times of
// results count from it.
func NewResults(began time.Time) *Results {
	r := &Results{began: began}
	r.pages.Store(&[]*page{})
	return r
}

// Began returns when the attack began.
func (r *Results) Began() time.Time { return r.began }

// Now returns the time since the attack began.
func (r *Results) Now() time.Duration { return time.Since(r.began) }

// Sending counts an operation that is about to be sent. Its result is added later.
func (r *Results) Sending() { r.live.sent.Add(1) }

// Add adds the only result of an operation.
func (r *Results) Add(result Result) {
	p := r.page(result.Seq/pageSize, true)
	i := result.Seq % pageSize
	p.results[i] = result
	p.done[i].Store(true)
	if result.Status == http.StatusAccepted {
		r.latest.Store(result.Seq + 1)
	}
	r.live.add(&result)
}

// page returns page n, or nil if it does not exist and create is false.
func (r *Results) page(n uint64, create bool) *page {
	if pages := *r.pages.Load(); n < uint64(len(pages)) {
		return pages[n]
	}
	if !create {
		return nil
	}
	r.grow.Lock()
	defer r.grow.Unlock()
	old := *r.pages.Load()
	if n < uint64(len(old)) {
		return old[n]
	}
	pages := make([]*page, n+1)
	for i := copy(pages, old); i < len(pages); i++ {
		pages[i] = new(page)
	}
	r.pages.Store(&pages)
	return pages[n]
}

// Get returns the result of an operation; ok is false if there is none yet.
func (r *Results) Get(seq uint64) (result Result, ok bool) {
	p := r.page(seq/pageSize, false)
	if p == nil || !p.done[seq%pageSize].Load() {
		return Result{}, false
	}
	return p.results[seq%pageSize], true
}

// Request returns the request id of an accepted operation or, if there is none, of another operation accepted recently;
// ok is false if there is none either.
func (r *Results) Request(of uint64) (id trade.RequestID, ok bool) {
	if result, ok := r.Get(of); ok && result.Status == http.StatusAccepted {
		return result.Request, true
	}
	after := r.latest.Load()
	if after == 0 {
		return trade.RequestID{}, false
	}
	result, ok := r.Get(after - 1)
	return result.Request, ok
}

// All iterates over the results in the order of the operations. They must not be changed.
func (r *Results) All() iter.Seq[*Result] {
	return func(yield func(*Result) bool) {
		for _, p := range *r.pages.Load() {
			for i := range p.results {
				if p.done[i].Load() && !yield(&p.results[i]) {
					return
				}
			}
		}
	}
}

// Vegeta returns the result in the form of vegeta. Time stamp and latency are those of the due time, so the figures of
// its tools are also corrected for late sending. As in vegeta, the error of an answer from 400 on is its status.
func (r *Result) Vegeta(began time.Time, attack string) vegeta.Result {
	result := vegeta.Result{
		Attack: attack, Seq: r.Seq, Code: r.Status, Timestamp: began.Add(r.Due), Latency: max(r.Latency(), 0),
		BytesIn: uint64(r.BytesIn), BytesOut: uint64(r.BytesOut), Error: r.Err,
	}
	switch r.Kind {
	default:
		result.Method, result.URL = http.MethodPost, tradesPath
	case ReadTrade:
		result.Method, result.URL = http.MethodGet, tradesPath+"/{trade_id}"
	case ReadRequest:
		result.Method, result.URL = http.MethodGet, requestsPath+"{request_id}"
	}
	if result.Error == "" && r.Status >= http.StatusBadRequest {
		result.Error = strconv.Itoa(int(r.Status)) + " " + http.StatusText(int(r.Status))
	}
	return result
}
