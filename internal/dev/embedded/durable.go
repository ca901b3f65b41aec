package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// syncedAtOnce bounds the files that one round syncs side by side; each takes a thread while it lasts.
const syncedAtOnce = 64

// durable puts what the broker has written on disk before the broker says anything about it: the files of all
// partitions side by side, once for all connections that wait. The broker itself would sync them one after the other,
// for each batch, while everything else stands still, and would not look at the result.
type durable struct {
	dir      string
	syncFile func(path string) error // replaced in tests
	onBroken func(error)

	mu   sync.Mutex
	next *round // the one that has not begun, guarded by mu

	running sync.Mutex       // held by the round that has begun, guards what follows
	synced  map[string]stamp // what is on disk of each file and folder
	broken  error
}

// round is one pass over all files. What was written before it began is on disk when it is done. Guarded by running.
type round struct {
	done bool
	err  error
}

// stamp changes whenever a file is written to: the broker only appends, or replaces by renaming.
type stamp struct {
	size    int64
	changed time.Time
}

func newDurable(dir string, onBroken func(error)) *durable {
	return &durable{dir: dir, syncFile: syncFile, onBroken: onBroken, next: &round{}, synced: map[string]stamp{}}
}

// flush returns when everything that was written before the call is on disk. After its first error it returns nothing
// else: the kernel may have thrown the pages away, so that the next sync succeeds and means nothing.
func (d *durable) flush() error {
	d.mu.Lock()
	r := d.next
	d.mu.Unlock()
	d.running.Lock()
	defer d.running.Unlock()
	if r.done { // by another caller, and begun after this call
		return r.err
	}
	d.mu.Lock()
	d.next = &round{}
	d.mu.Unlock()
	if d.broken == nil {
		if d.broken = d.sync(); d.broken != nil {
			d.onBroken(d.broken)
		}
	}
	r.done, r.err = true, d.broken
	return r.err
}

func (d *durable) sync() error {
	now := make(map[string]stamp, len(d.synced))
	var files errgroup.Group
	files.SetLimit(syncedAtOnce)
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreGone(err)
		}
		now[path] = stamp{info.Size(), info.ModTime()}
		if now[path] != d.synced[path] {
			files.Go(func() error { return ignoreGone(d.syncFile(path)) })
		}
		return nil
	})
	d.synced = now
	return errors.Join(err, files.Wait())
}

// ignoreGone drops the error of a file that retention or a replacement removed in the meantime.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// listen is net.Listen for connections on which no byte leaves before what the broker has written is on disk. That
// holds for reads as well: nobody sees a record whose offset a power cut would give to another one.
func (d *durable) listen(network, address string) (net.Listener, error) {
	ln, err := net.Listen(network, address)
	return durableListener{ln, d}, err
}

type durableListener struct {
	net.Listener
	d *durable
}

func (l durableListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return durableConn{c, l.d}, err
}

type durableConn struct {
	net.Conn
	d *durable
}

func (c durableConn) Write(b []byte) (int, error) {
	if err := c.d.flush(); err != nil {
		return 0, fmt.Errorf("cannot put the log on disk: %w", err)
	}
	return c.Conn.Write(b)
}
