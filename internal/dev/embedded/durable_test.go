package embedded

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// syncs remembers which files were synced, and may hold or refuse them.
type syncs struct {
	mu    sync.Mutex
	paths []string
	fails error
	gate  sync.Mutex // held by a test that holds syncs
}

func (s *syncs) sync(path string) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, filepath.Base(path))
	return s.fails
}

// take returns what was synced since the last call.
func (s *syncs) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.paths
	s.paths = nil
	return taken
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestFlushSyncsWhatChanged(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, "part")
	require.NoError(t, os.Mkdir(part, 0o700))
	var seen syncs
	d := newDurable(dir, func(error) {})
	d.syncFile = seen.sync
	f := func(change func(), want ...string) {
		t.Helper()
		change()
		require.NoError(t, d.flush())
		require.ElementsMatch(t, want, seen.take())
	}
	f(func() {}, filepath.Base(dir), "part")
	f(func() {})
	f(func() { write(t, filepath.Join(part, "a"), "1") }, "part", "a")
	f(func() { write(t, filepath.Join(part, "b"), "1") }, "part", "b")
	f(func() { write(t, filepath.Join(part, "a"), "2") }, "a")
	f(func() { write(t, filepath.Join(part, "a"), "3"); write(t, filepath.Join(part, "b"), "2") }, "a", "b")
	f(func() { require.NoError(t, os.Remove(filepath.Join(part, "a"))) }, "part")
	f(func() {})
}

// One round does for all who wait, but not for those who came after it began.
func TestFlushesShareARound(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	began, release := make(chan struct{}, 100), make(chan struct{})
	d := newDurable(log, func(error) {})
	d.syncFile = func(string) error { began <- struct{}{}; <-release; return nil }
	write(t, log, "1")
	var flushes sync.WaitGroup
	flush := func() { flushes.Go(func() { assert.NoError(t, d.flush()) }) }
	flush()
	<-began
	write(t, log, "2")
	for range 10 {
		flush()
	}
	close(release)
	flushes.Wait()
	require.Len(t, began, 1, "one round for what was written since the first one began")
}

// A record is neither acknowledged nor seen by a reader before it is on disk.
func TestNothingIsSaidBeforeItIsOnDisk(t *testing.T) {
	k := startKafka(t, KafkaConfig{Dir: t.TempDir()})
	writer, admin := client(t, k.Addrs()[0])
	_, err := admin.CreateTopic(t.Context(), 1, -1, nil, "kept")
	require.NoError(t, err)
	require.NoError(t, writer.ProduceSync(t.Context(), &kgo.Record{Topic: "kept", Value: []byte("a")}).FirstErr())
	reader, _ := client(t, k.Addrs()[0], kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.Len(t, reader.PollFetches(t.Context()).Records(), 1)

	var seen syncs
	k.disk.running.Lock()
	k.disk.syncFile = seen.sync
	k.disk.running.Unlock()
	seen.gate.Lock()
	release := sync.OnceFunc(seen.gate.Unlock)
	t.Cleanup(release) // before the broker closes, which waits for its last sync
	acknowledged, read := make(chan error, 1), make(chan int, 1)
	go func() {
		acknowledged <- writer.ProduceSync(t.Context(), &kgo.Record{Topic: "kept", Value: []byte("b")}).FirstErr()
	}()
	go func() { read <- len(reader.PollFetches(t.Context()).Records()) }()
	select {
	case err := <-acknowledged:
		require.FailNow(t, "acknowledged before it was on disk", "%v", err)
	case n := <-read:
		require.FailNow(t, "read before it was on disk", "%d records", n)
	case <-time.After(300 * time.Millisecond):
	}
	release()
	require.NoError(t, <-acknowledged)
	require.Equal(t, 1, <-read)
}

// After a sync has failed nothing is acknowledged any more, even if the next one would succeed.
func TestAFailedDiskEndsTheBroker(t *testing.T) {
	var log bytes.Buffer // written once, before the broken answers
	k := startKafka(t, KafkaConfig{Dir: t.TempDir(), Log: zerolog.New(&log)})
	c, admin := client(t, k.Addrs()[0], kgo.RecordDeliveryTimeout(time.Second), kgo.AllowIdempotentProduceCancellation())
	_, err := admin.CreateTopic(t.Context(), 1, -1, nil, "kept")
	require.NoError(t, err)
	produce := func() error {
		return c.ProduceSync(t.Context(), &kgo.Record{Topic: "kept", Value: []byte("a")}).FirstErr()
	}
	require.NoError(t, produce())
	seen := syncs{fails: errors.New("input/output error")}
	k.disk.running.Lock()
	k.disk.syncFile = seen.sync
	k.disk.running.Unlock()
	require.Error(t, produce())
	seen.mu.Lock()
	seen.fails = nil
	seen.mu.Unlock()
	require.Error(t, produce())
	k.disk.running.Lock()
	defer k.disk.running.Unlock()
	require.Contains(t, log.String(), "input/output error")
}
