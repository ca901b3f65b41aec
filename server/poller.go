package server

import (
	"fmt"
	"runtime/debug"
	"time"
)

// The pace of a poller: it costs the store at most a fifth of the time of one connection.
const (
	pollPause  = 20 * time.Millisecond // between two reads, at least
	pollPauses = time.Second           // at most, and after a read that failed
	pollRest   = 4                     // pauses are that many times as long as the read before
)

// poller reads for those who wait for news, as long as there are any. Whoever shows news may say so; else they are found
// after a pause.
type journalPoller struct {
	arrived chan struct{} // capacity 1: someone is there to read for who was not
	shown   chan struct{} // capacity 1: there are outcomes that were not there
	closed  <-chan struct{}
	m       *metrics
}

func newJournalPoller(closed <-chan struct{}, m *metrics) journalPoller {
	return journalPoller{arrived: make(chan struct{}, 1), shown: make(chan struct{}, 1), closed: closed, m: m}
}

// poll reads while there is anyone to read for, until closed. A read that failed is repeated.
func (p *journalPoller) poll(anyone func() bool, read func() error, failed func(error)) {
	pause := pollPause
	for {
		if !anyone() {
			select {
			case <-p.arrived:
			case <-p.closed:
				return
			}
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.shown:
		case <-p.closed:
			return
		}
		timer.Stop()
		began := time.Now()
		err := p.try(read)
		pause = min(max(pollRest*time.Since(began), pollPause), pollPauses)
		if err != nil {
			pause = pollPauses
			failed(err)
		}
	}
}

// try makes a panic in the store an error of this read.
func (p *journalPoller) try(read func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p.m.panics.Inc()
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return read()
}

// notify fills a channel of capacity 1: whoever reads it later knows that something has happened since.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
