package postgres

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tradestore/trade"
)

// copyBuffer builds the input of COPY ... FROM STDIN BINARY: rows of fields, each field after its length (PostgreSQL
// manual, COPY, "Binary Format"). It takes a few percent of the time of pgx's general encoder, and every applied trade
// passes through it twice.
type copyBuffer struct {
	data []byte
}

// PostgreSQL counts days and microseconds from 2000-01-01 UTC.
const (
	epochDays   = 10_957
	epochMicros = epochDays * 24 * 60 * 60 * 1_000_000
	nullLength  = 0xffff_ffff

	copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // signature, no flags, no extension
	copyEnd    = 0xffff

	copyChunk = 64 << 10 // bytes, about: one chunk is built while the server reads the one before
)

// row starts a row of n fields. Exactly n calls of the methods below must follow.
func (c *copyBuffer) row(n int) { c.data = binary.BigEndian.AppendUint16(c.data, uint16(n)) }

func (c *copyBuffer) null() { c.data = binary.BigEndian.AppendUint32(c.data, nullLength) }

func (c *copyBuffer) bool(v bool) {
	c.data = append(c.data, 0, 0, 0, 1, 0)
	if v {
		c.data[len(c.data)-1] = 1
	}
}

func (c *copyBuffer) int4(v int32) { c.data = appendInt4(c.data, v) }

func (c *copyBuffer) int8(v int64) { c.data = appendInt8(c.data, v) }

func (c *copyBuffer) date(d trade.Date) { c.int4(int32(d) - epochDays) }

func (c *copyBuffer) time(t time.Time) { c.int8(t.UnixMicro() - epochMicros) }

func (c *copyBuffer) text(s string) { c.data = appendText(c.data, s) }

// textOrNull stores the empty string as NULL.
func (c *copyBuffer) textOrNull(s string) {
	if s == "" {
		c.null()
		return
	}
	c.text(s)
}

func (c *copyBuffer) id(id trade.RequestID) { c.data = appendUUID(c.data, id) }

// idOrNull stores the zero id as NULL.
func (c *copyBuffer) idOrNull(id trade.RequestID) {
	if id.IsZero() {
		c.null()
		return
	}
	c.id(id)
}

// copyRows runs the COPY statement sql with n rows and checks that all of them arrived. row builds a row shortly before
// it is sent; it is not called after copyRows has returned.
func copyRows(ctx context.Context, conn *pgx.Conn, sql string, n int, row func(c *copyBuffer, i int)) error {
	in := copyInputs.Get().(*copyInput)
	in.begin(n, row)
	tag, err := conn.PgConn().CopyFrom(ctx, in, sql)
	in.end()
	if err == nil { // after an error pgx may still read the input: it is not used again
		copyInputs.Put(in)
	}
	return checkRows(tag, err, n)
}

var copyInputs = sync.Pool{New: func() any { return new(copyInput) }}

// copyInput is the reader of a COPY. It builds the rows a chunk at a time, while the server works on the chunk before.
type copyInput struct {
	mu     sync.Mutex // Read is called in another goroutine, which may outlive the COPY
	buffer copyBuffer
	unread []byte                     // of the buffer
	row    func(c *copyBuffer, i int) // nil: there are no more rows
	next   int
	rows   int
}

func (in *copyInput) begin(n int, row func(c *copyBuffer, i int)) {
	in.buffer.data = append(in.buffer.data[:0], copyHeader...)
	in.unread, in.row, in.next, in.rows = nil, row, 0, n
}

func (in *copyInput) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.unread, in.row = nil, nil
}

// Read implements io.Reader.
func (in *copyInput) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.unread) == 0 {
		if in.row == nil {
			return 0, io.EOF
		}
		in.build()
	}
	n := copy(p, in.unread)
	in.unread = in.unread[n:]
	return n, nil
}

// build makes the next chunk.
func (in *copyInput) build() {
	for in.next < in.rows && len(in.buffer.data) < copyChunk {
		in.row(&in.buffer, in.next)
		in.next++
	}
	if in.next == in.rows {
		in.buffer.data = binary.BigEndian.AppendUint16(in.buffer.data, copyEnd)
		in.row = nil
	}
	in.unread, in.buffer.data = in.buffer.data, in.buffer.data[:0]
}

// checkRows returns an error of class Broken if a statement changed another number of rows than planned (rule A5).
func checkRows(tag pgconn.CommandTag, err error, want int) error {
	if err == nil && tag.RowsAffected() != int64(want) {
		return trade.Classed(trade.Broken, "%s: %d rows changed, %d were planned", tag, tag.RowsAffected(), want)
	}
	return err
}
