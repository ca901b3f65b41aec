package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// load is what a run of the generator saw.
type load struct {
	answers map[int]int // by status code
	lasted  time.Duration
}

// rate returns the answers with this status per second.
func (l load) rate(status int) float64 { return float64(l.answers[status]) / l.lasted.Seconds() }

// attack posts new trades to address over the given number of connections until the time is over, each connection its
// next request as soon as the answer to the one before is in (a closed loop: it finds the highest rate, and says nothing
// about latency). It costs little CPU because it builds requests in place and reads no more of an answer than its length.
func attack(ctx context.Context, address, run string, connections int, hold time.Duration) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	var (
		mu     sync.Mutex
		total  = load{answers: map[int]int{}}
		failed error
		wg     sync.WaitGroup
		began  = time.Now()
	)
	for c := range connections {
		wg.Go(func() {
			answers, err := connection(ctx, address, fmt.Sprintf("%s-%d", run, c))
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			for status, n := range answers {
				total.answers[status] += n
			}
		})
	}
	wg.Wait()
	total.lasted = time.Since(began)
	return total, failed
}

// connection posts trades prefix-0, prefix-1, ... until ctx ends.
func connection(ctx context.Context, address, prefix string) (map[int]int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	answers := map[int]int{}
	in := bufio.NewReaderSize(conn, 4096)
	var request, body []byte
	for n := 0; ctx.Err() == nil; n++ {
		body = fmt.Appendf(body[:0], `{"trade_id":"%s-%d","version":1,"counterparty_id":"CP-%d","book_id":"B-%d",`+
			`"maturity_date":"2999-12-31","created_date":"2026-01-02"}`, prefix, n, n%97, n%13)
		request = fmt.Appendf(request[:0], "POST /api/v1/trades HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n%s", address, len(body), body)
		if _, err := conn.Write(request); err != nil {
			return answers, fmt.Errorf("cannot send: %w", err)
		}
		status, err := readAnswer(in)
		if err != nil {
			return answers, fmt.Errorf("cannot read an answer: %w", err)
		}
		answers[status]++
	}
	return answers, nil
}

// readAnswer reads one HTTP/1.1 answer that has a Content-Length, and returns its status.
func readAnswer(in *bufio.Reader) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, fmt.Errorf("no status line: %w", err)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, fmt.Errorf("bad status line: %w", err)
	}
	length := 0
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if http.CanonicalHeaderKey(string(name)) == "Content-Length" {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	_, err = in.Discard(length)
	return status, err
}
