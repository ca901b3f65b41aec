package dev

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"
)

const banner = `
Trade Store is ready.

  API         %[1]s/api/v1   (health: /api/v1/health, metrics: /metrics)
  Worker      %[2]s/readyz, /metrics
  Kafka       %[3]s, topic %[4]s, embedded
  PostgreSQL  %[5]s
  Data        %[6]s   (addresses and the database's password: %[7]s)

All of it runs on this one machine, without copies and without authentication: for development, not for production.

Submit a trade, read the request_id in the answer, then what became of it and what is stored:

  curl -i %[1]s/api/v1/trades -H 'Content-Type: application/json' -d '{"trade_id":"T1","version":1,"counterparty_id":"CP-1","book_id":"B1","maturity_date":"%[8]s","created_date":"%[9]s"}'
  curl %[1]s/api/v1/requests/REQUEST_ID
  curl %[1]s/api/v1/trades/T1

Ctrl-C stops everything. The data stays; 'tradestore dev --remove' deletes it.

`

// banner says what runs where and what to try. The trade in it matures half a year after now.
func (s *runner) banner(now time.Time) {
	data := s.cfg.DataDir
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	now = now.UTC()
	fmt.Fprintf(s.out, banner, baseURL(s.api), baseURL(s.probes), s.stores.kafka[0], topic(), s.whichPostgres(data), data,
		filepath.Join(data, noteName), now.AddDate(0, 6, 0).Format(time.DateOnly), now.Format(time.DateOnly))
}

func (s *runner) whichPostgres(data string) string {
	if s.postgres == nil {
		u, err := url.Parse(s.cfg.DatabaseURL)
		if err != nil { // it was parsed before
			return "yours"
		}
		return u.Host + ", yours"
	}
	text := fmt.Sprintf("127.0.0.1:%d, version %s, embedded", s.postgres.Port(), s.postgres.Version())
	if rel, err := filepath.Rel(data, s.postgres.Dir()); err != nil || !filepath.IsLocal(rel) {
		text += ", files in " + s.postgres.Dir()
	}
	return text
}

// baseURL is how this machine reaches the listener.
func baseURL(ln net.Listener) string {
	at, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return "http://" + ln.Addr().String()
	}
	host := at.IP.String()
	if at.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(at.Port))
}
