package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tradestore/trade"
)

// copyBuffer builds the input of COPY ... FROM STDIN BINARY: rows of fields, each with its length before it
// (PostgreSQL manual, COPY, "Binary Format"). Written by hand it costs a few percent of what the general encoder does,
// and the apply line sends every trade through it twice.
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

	keptBuffer = 8 << 20 // bytes; a larger one came from an unusual batch and is left to the collector
)

var copyBuffers = sync.Pool{New: func() any { return new(copyBuffer) }}

// newCopyBuffer returns an empty buffer. The caller gives it back with release.
func newCopyBuffer() *copyBuffer {
	c := copyBuffers.Get().(*copyBuffer)
	c.data = append(c.data[:0], copyHeader...)
	return c
}

func (c *copyBuffer) release() {
	if cap(c.data) <= keptBuffer {
		copyBuffers.Put(c)
	}
}

// row starts a row of n fields; exactly n calls of the methods below must follow.
func (c *copyBuffer) row(n int) { c.data = binary.BigEndian.AppendUint16(c.data, uint16(n)) }

func (c *copyBuffer) null() { c.data = binary.BigEndian.AppendUint32(c.data, nullLength) }

func (c *copyBuffer) int4(v int32) {
	c.data = binary.BigEndian.AppendUint64(c.data, 4<<32|uint64(uint32(v)))
}

func (c *copyBuffer) int8(v int64) {
	c.data = binary.BigEndian.AppendUint32(c.data, 8)
	c.data = binary.BigEndian.AppendUint64(c.data, uint64(v))
}

func (c *copyBuffer) date(d trade.Date) { c.int4(int32(d) - epochDays) }

func (c *copyBuffer) time(t time.Time) { c.int8(t.UnixMicro() - epochMicros) }

func (c *copyBuffer) text(s string) {
	c.data = binary.BigEndian.AppendUint32(c.data, uint32(len(s)))
	c.data = append(c.data, s...)
}

// textOrNull stores the empty string as NULL.
func (c *copyBuffer) textOrNull(s string) {
	if s == "" {
		c.null()
		return
	}
	c.text(s)
}

func (c *copyBuffer) id(id trade.RequestID) {
	c.data = binary.BigEndian.AppendUint32(c.data, uint32(len(id)))
	c.data = append(c.data, id[:]...)
}

// idOrNull stores the zero id as NULL.
func (c *copyBuffer) idOrNull(id trade.RequestID) {
	if id.IsZero() {
		c.null()
		return
	}
	c.id(id)
}

// send runs the COPY statement sql with the rows built so far and checks that all of them arrived.
func (c *copyBuffer) send(ctx context.Context, conn *pgx.Conn, sql string, rows int) error {
	c.data = binary.BigEndian.AppendUint16(c.data, copyEnd)
	tag, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(c.data), sql)
	if err != nil {
		c.data = nil // on a broken connection pgx returns while its writer may still read the rows: never reuse them
	}
	return checkRows(tag, err, rows)
}

// checkRows turns a statement that changed other than the planned number of rows into an error of class Broken.
func checkRows(tag pgconn.CommandTag, err error, want int) error {
	if err == nil && tag.RowsAffected() != int64(want) {
		return trade.Classed(trade.Broken, "%s: %d rows changed, %d were planned", tag, tag.RowsAffected(), want)
	}
	return err
}
