package postgres

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// Benchmarks of the apply line. They report rows/s and want a quiet machine:
//
//	go test -run '^$' -bench . -benchtime 3s ./postgres

// supply makes batches that can be applied one after another: each has size records over all partitions given.
type supply struct {
	topicLog
	size, made int
	partitions []int32
	kind       string
}

const (
	kindNew     = "new"     // keys never seen
	kindReplace = "replace" // keys of the batch before
	kindStale   = "stale"   // a version below the stored one
)

func newSupply(d *testDatabase, kind string, size int, partitions ...int32) *supply {
	return &supply{topicLog: topicLog{db: d, topic: testTopicID, gen: 1}, size: size, partitions: partitions, kind: kind}
}

// fill appends a batch of one kind.
func (s *supply) fill(kind string) *trade.Batch {
	per := s.size / len(s.partitions)
	version := int32(2)
	if kind == kindStale {
		version = 1
	}
	if kind == kindNew {
		s.made++
	}
	for _, p := range s.partitions {
		for i := range per {
			r := s.add("", version, "BOOK-7")
			s.pending = s.pending[:len(s.pending)-1]
			s.next[r.Partition]--
			r.Partition = p
			r.Trade.TradeID = fmt.Sprintf("TRD-%d-%08d", p, (s.made*per+i)*2654435761%100_000_000)
			s.append(r)
		}
	}
	return s.batch()
}

// run applies b.N batches made beforehand, after one that warms up the session.
func (s *supply) run(b *testing.B, store *Store) {
	_, err := store.Apply(b.Context(), s.fill(kindNew))
	require.NoError(b, err)
	batches := make([]*trade.Batch, b.N)
	for i := range batches {
		batches[i] = s.fill(s.kind)
	}
	b.ResetTimer()
	for _, batch := range batches {
		_, err := store.Apply(context.Background(), batch)
		require.NoError(b, err)
	}
	reportRows(b, b.N*s.size)
}

func benchmarkDatabase(b *testing.B) *testDatabase {
	d := newDatabase(b)
	require.NoError(b, NewMaintainer(d.reads).MakeDays(b.Context(), testNow))
	return d
}

func reportRows(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkApply(b *testing.B) {
	for _, kind := range []string{kindNew, kindReplace, kindStale} {
		for _, size := range []int{250, 1_000, 4_000} {
			b.Run(fmt.Sprintf("%s/rows=%d", kind, size), func(b *testing.B) {
				d := benchmarkDatabase(b)
				newSupply(d, kind, size, allPartitions...).run(b, newStore(d))
			})
		}
	}
}

// BenchmarkApplyTwo applies on two connections, each with half of the partitions.
func BenchmarkApplyTwo(b *testing.B) {
	for _, size := range []int{1_000, 4_000} {
		b.Run(fmt.Sprintf("new/rows=%d", size), func(b *testing.B) {
			d := benchmarkDatabase(b)
			var lanes [2][]*trade.Batch
			for i := range lanes {
				s := newSupply(d, kindNew, size, int32(2*i), int32(2*i+1))
				for range b.N {
					lanes[i] = append(lanes[i], s.fill(kindNew))
				}
			}
			store := newStore(d)
			b.ResetTimer()
			var both sync.WaitGroup
			for _, lane := range lanes {
				both.Go(func() {
					for _, batch := range lane {
						_, err := store.Apply(context.Background(), batch)
						require.NoError(b, err)
					}
				})
			}
			both.Wait()
			reportRows(b, 2*b.N*size)
		})
	}
}

// BenchmarkRawUnnest and BenchmarkRawCopy write the same trades with one statement per batch and nothing around it:
// what the table can take.
func BenchmarkRawUnnest(b *testing.B) {
	const upsert = `
		INSERT INTO trades (trade_id, version, counterparty_id, book_id, maturity_date, created_date,
			src_generation, src_partition, src_offset, request_id, stored_at)
		SELECT r.*, $11 FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::date[], $6::date[],
			$7::integer[], $8::integer[], $9::bigint[], $10::uuid[]) AS r
		ON CONFLICT (trade_id, version) DO UPDATE SET
			counterparty_id = excluded.counterparty_id, book_id = excluded.book_id,
			maturity_date = excluded.maturity_date, created_date = excluded.created_date,
			src_generation = excluded.src_generation, src_partition = excluded.src_partition,
			src_offset = excluded.src_offset,
			request_id = excluded.request_id,
			stored_at = excluded.stored_at`
	benchmarkRaw(b, func(ctx context.Context, w *write) error {
		n := len(w.plan.Inserts)
		tradeID, counterparty, book := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
		version, generation, partition := make([]int32, 0, n), make([]int32, 0, n), make([]int32, 0, n)
		maturity, created := make([]time.Time, 0, n), make([]time.Time, 0, n)
		offsets, ids := make([]int64, 0, n), make([][16]byte, 0, n)
		for _, r := range w.plan.Inserts {
			tradeID, version = append(tradeID, r.Trade.TradeID), append(version, r.Trade.Version)
			counterparty, book = append(counterparty, r.Trade.CounterpartyID), append(book, r.Trade.BookID)
			generation, partition = append(generation, 1), append(partition, r.Partition)
			maturity, created = append(maturity, r.Trade.MaturityDate.Time()), append(created, r.Trade.CreatedDate.Time())
			offsets, ids = append(offsets, r.Offset), append(ids, [16]byte(r.ID))
		}
		_, err := w.conn.Exec(ctx, upsert, tradeID, version, counterparty, book, maturity, created,
			generation, partition, offsets, ids, w.now)
		return err
	})
}

func BenchmarkRawCopy(b *testing.B) {
	columns := []string{"trade_id", "version", "counterparty_id", "book_id", "maturity_date", "created_date",
		"src_generation", "src_partition", "src_offset", "request_id", "stored_at"}
	benchmarkRaw(b, func(ctx context.Context, w *write) error {
		rows := pgx.CopyFromSlice(len(w.plan.Inserts), func(i int) ([]any, error) {
			r := w.plan.Inserts[i]
			return []any{r.Trade.TradeID, r.Trade.Version, r.Trade.CounterpartyID, r.Trade.BookID, r.Trade.MaturityDate.Time(),
				r.Trade.CreatedDate.Time(), 1, r.Partition, r.Offset, [16]byte(r.ID), w.now}, nil
		})
		_, err := w.conn.CopyFrom(ctx, pgx.Identifier{"trades"}, columns, rows)
		return err
	})
}

func benchmarkRaw(b *testing.B, run func(ctx context.Context, w *write) error) {
	const size = 4_000
	d := benchmarkDatabase(b)
	s := newSupply(d, kindNew, size, allPartitions...)
	conn, err := pgx.Connect(b.Context(), d.url) // as pgx makes it: our pools encode arrays in their own way
	require.NoError(b, err)
	defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
	batches := make([]write, b.N)
	for i := range batches {
		batch := s.fill(kindNew)
		plan := trade.Decide(batch.Records, nil, nil)
		batches[i] = write{conn: conn, batch: batch, plan: &plan, now: testNow}
	}
	b.ResetTimer()
	for i := range batches {
		require.NoError(b, run(context.Background(), &batches[i]))
	}
	reportRows(b, b.N*size)
}

// BenchmarkOpen opens requests by the number in a flush.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("requests=%d", size), func(b *testing.B) {
			d := newDatabase(b)
			require.NoError(b, NewMaintainer(d.reads).MakeDays(b.Context(), time.Now()))
			store := NewRequestStore(d.reads)
			s := newSupply(d, kindNew, 4*size, allPartitions...)
			for b.Loop() {
				b.StopTimer()
				s.size = 4 * size
				batch := s.fill(kindNew)
				requests := make([]*trade.Request, size)
				for i := range requests {
					requests[i] = &batch.Records[i].Request
					requests[i].AcceptedAt = time.Now() // an older one is noted as late, which takes four times as long
				}
				b.StartTimer()
				require.Nil(b, store.Open(context.Background(), requests))
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// BenchmarkGet reads decided requests on 64 connections, with 32 days of partitions.
func BenchmarkGet(b *testing.B) {
	d := newDatabase(b)
	d.makeDays(b, 32)
	const requests, conns = 10_000, 64
	store := newStore(d)
	batch := newSupply(d, kindNew, requests, allPartitions...).fill(kindNew)
	_, err := store.Apply(b.Context(), batch)
	require.NoError(b, err)
	cfg := Config{URL: d.url, ApplicationName: "get", MaxConns: conns}
	pool, err := Open(b.Context(), cfg, prometheus.NewRegistry())
	require.NoError(b, err)
	defer pool.Close()
	reads := NewRequestStore(pool)
	var next atomic.Int64
	b.ResetTimer()
	b.SetParallelism(conns / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := reads.Get(context.Background(), batch.Records[next.Add(1)%requests].ID)
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}
