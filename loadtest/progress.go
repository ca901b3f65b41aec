package loadtest

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	liveEvery = 250 * time.Millisecond // on a terminal
	lineEvery = 10 * time.Second       // elsewhere, such as in CI
	lookEvery = time.Second            // checks whether a line is due
)

// Progress shows the progress of a run: on a terminal in one line that changes, elsewhere as a line every 10 s.
type Progress struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex // one line at a time; protects what follows
	last  time.Time  // when a plain line was written
	drawn bool       // the changing line is on the terminal
}

// NewProgress returns a Progress that writes to out, or nothing if out is nil.
func NewProgress(out io.Writer, terminal bool) *Progress {
	if out == nil {
		out, terminal = io.Discard, false
	}
	return &Progress{out: out, terminal: terminal}
}

// Say writes a line that stays.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// Phase shows line repeatedly until the returned function is called.
func (p *Progress) Phase(line func() string) (end func()) {
	every := lookEvery
	if p.terminal {
		every = liveEvery
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				p.show(line())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-stopped
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	})
}

func (p *Progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal { // cut off a long line: the next one must overwrite it
		fmt.Fprintf(p.out, "\r\x1b[2K\x1b[?7l%s\x1b[?7h", line)
		p.drawn = true
		return
	}
	if now := time.Now(); now.Sub(p.last) >= lineEvery {
		p.last = now
		fmt.Fprintln(p.out, line)
	}
}

func (p *Progress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[2K")
		p.drawn = false
	}
}
