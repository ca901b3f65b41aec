package loadtest

import (
	"context"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"
)

const (
	sampleEvery = time.Second
	sampleLimit = 900 * time.Millisecond // for one read of one source
)

// Reading is one value that a source measured.
type Reading struct {
	Name  string // of the series, like "server CPU"
	Group string // of series that belong in one picture
	Unit  string // as in Series
	Value float64
	Total bool // Value is a counter; the series is its rate per second
}

// Source measures values during the load. Read is not called concurrently, so it may keep state.
type Source struct {
	Name string // for messages, like "metrics of the server"
	Read func(ctx context.Context) ([]Reading, error)
}

// Monitor reads every source once a second, each in its own goroutine, so a source that hangs delays no other. A failed
// read leaves a gap.
type Monitor struct {
	sources []Source
	began   time.Time
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // protects what follows
	series map[string]*track
	order  []string // of first appearance
	failed map[string]failure
}

// track is a series under construction.
type track struct {
	Series
	total  float64 // last value of a counter
	at     time.Duration
	totals bool // total and at are set
}

// failure counts failed reads of a source and keeps the last error.
type failure struct {
	count int
	err   error
}

// NewMonitor returns a monitor of the sources. Start starts it.
func NewMonitor(sources ...Source) *Monitor {
	return &Monitor{sources: sources, series: map[string]*track{}, failed: map[string]failure{}}
}

// Start reads the sources until ctx ends or Stop is called. Times of samples count from began.
func (m *Monitor) Start(ctx context.Context, began time.Time) {
	m.began = began
	ctx, m.stop = context.WithCancel(ctx)
	for _, s := range m.sources {
		m.running.Go(func() { m.watch(ctx, s) })
	}
}

// Stop stops the monitor and returns all series, sorted by group.
func (m *Monitor) Stop() []Series {
	m.stop()
	m.running.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Series
	for _, name := range m.order {
		if t := m.series[name]; len(t.Points) > 0 {
			all = append(all, t.Series)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Group < all[j].Group })
	return all
}

func (m *Monitor) watch(ctx context.Context, s Source) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, sampleLimit)
		readings, err := s.Read(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		m.record(s.Name, time.Since(m.began), readings, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// record adds the readings of a source. A counter that shrank belongs to a restarted process: its rate starts anew.
func (m *Monitor) record(source string, at time.Duration, readings []Reading, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed[source] = failure{m.failed[source].count + 1, err}
	}
	for _, r := range readings {
		t := m.series[r.Name]
		if t == nil {
			t = &track{Series: Series{Name: r.Name, Group: r.Group, Unit: r.Unit}}
			m.series[r.Name] = t
			m.order = append(m.order, r.Name)
		}
		value := r.Value
		if r.Total {
			before, since, known := t.total, t.at, t.totals
			t.total, t.at, t.totals = r.Value, at, true
			if !known || r.Value < before || at <= since {
				continue
			}
			value = (r.Value - before) / (at - since).Seconds()
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue
		}
		t.Points = append(t.Points, Sample{At: at.Seconds(), Value: value})
	}
}

// Latest returns the last value of a series, and false if there is none.
func (m *Monitor) Latest(name string) (float64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.series[name]
	if t == nil || len(t.Points) == 0 {
		return 0, false
	}
	return t.Points[len(t.Points)-1].Value, true
}

// Between returns the series with the points that lie in [from, to), in seconds from the start.
func (m *Monitor) Between(from, to float64) []Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Series
	for _, name := range m.order {
		if part := between(m.series[name].Series, from, to); len(part.Points) > 0 {
			all = append(all, part)
		}
	}
	return all
}

func between(s Series, from, to float64) Series {
	first := sort.Search(len(s.Points), func(i int) bool { return s.Points[i].At >= from })
	end := sort.Search(len(s.Points), func(i int) bool { return s.Points[i].At >= to })
	s.Points = append([]Sample(nil), s.Points[first:max(first, end)]...)
	return s
}

// mean returns the mean of the points, and false if there are none.
func (s *Series) mean() (float64, bool) {
	if len(s.Points) == 0 {
		return 0, false
	}
	sum := 0.0
	for _, p := range s.Points {
		sum += p.Value
	}
	return sum / float64(len(s.Points)), true
}

// highest returns the highest point of a series, 0 if it has none.
func (s *Series) highest() float64 {
	most := 0.0
	for _, p := range s.Points {
		most = max(most, p.Value)
	}
	return most
}

// seriesNamed returns the series of that name, or an empty one.
func seriesNamed(all []Series, name string) Series {
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	return Series{}
}

// Failures returns a sentence for each source that could not always be read.
func (m *Monitor) Failures() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, s := range m.sources {
		if f, ok := m.failed[s.Name]; ok {
			all = append(all, fmt.Sprintf("%s: could not be read %d times, at last: %v", s.Name, f.count, f.err))
		}
	}
	return all
}
