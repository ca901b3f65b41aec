package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/trade"
)

// Endpoints says where a running Trade Store answers.
type Endpoints struct {
	API      string   // http://host:port of the server
	Worker   string   // http://host:port of the worker's health and metrics
	Kafka    []string // host:port of the brokers
	Topic    string
	Earlier  []string // topics that it followed, oldest first
	Database string   // URL
	DynamoDB string   // URL of DynamoDB Local where the request store is there; empty: it is in the database
	Table    string   // of that request store
}

// ErrBehind is returned while the log has not been applied and projected up to its end.
var ErrBehind = errors.New("the log is not worked through")

// Gather reads everything that Check needs. Nothing may be posted meanwhile.
// Errors: ErrBehind; any other means that a store did not answer.
func Gather(ctx context.Context, at Endpoints, client *Client) (*Evidence, error) {
	ev := &Evidence{}
	ev.Earlier = make([]Generation, len(at.Earlier))
	var err error
	for i, topic := range at.Earlier {
		earlier := at
		earlier.Topic = topic
		if ev.Earlier[i].Log, ev.Earlier[i].LogEnd, err = readLog(ctx, earlier); err != nil {
			return nil, err
		}
	}
	if ev.Log, ev.LogEnd, err = readLog(ctx, at); err != nil {
		return nil, err
	}
	if err := ev.readTables(ctx, at.Database); err != nil {
		return nil, err
	}
	if at.DynamoDB != "" { // instead of the empty one in the database
		if err := ev.readItems(ctx, at.DynamoDB, at.Table); err != nil {
			return nil, err
		}
	}
	if ev.States, err = client.States(ctx, slices.Collect(maps.Keys(ev.Opened))); err != nil {
		return nil, err
	}
	return ev, nil
}

// Drained says whether everything in the log has been applied and projected. Errors: ErrBehind.
func Drained(ctx context.Context, at Endpoints) error {
	kc, err := kgo.NewClient(kgo.SeedBrokers(at.Kafka...))
	if err != nil {
		return err
	}
	defer kc.Close()
	end, err := logEnd(ctx, kc, at.Topic)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, at.Database)
	if err != nil {
		return fmt.Errorf("cannot read positions: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	next, err := readPositions(ctx, conn, len(at.Earlier)+1)
	if err != nil {
		return err
	}
	for partition := range end {
		if next[partition] < end[partition] {
			return fmt.Errorf("%w: partition %d ends at %d, its position is %d", ErrBehind, partition, end[partition],
				next[partition])
		}
	}
	var unprojected int
	err = conn.QueryRow(ctx,
		`SELECT count(*) FROM journal JOIN projection_cursor USING (generation, partition)
		WHERE "offset" >= projected_offset`).Scan(&unprojected)
	if err != nil {
		return fmt.Errorf("cannot read the project cursors: %w", err)
	}
	if unprojected > 0 {
		return fmt.Errorf("%w: %d outcomes are not projected", ErrBehind, unprojected)
	}
	return nil
}

func logEnd(ctx context.Context, kc *kgo.Client, topic string) (map[int32]int64, error) {
	listed, err := kadm.NewClient(kc).ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the end of topic %s: %w", topic, err)
	}
	end := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { end[o.Partition] = o.Offset })
	return end, nil
}

// readLog returns every record of the topic, by partition and offset, and where each partition ends.
func readLog(ctx context.Context, at Endpoints) ([]trade.Record, map[int32]int64, error) {
	kc, err := kgo.NewClient(kgo.SeedBrokers(at.Kafka...))
	if err != nil {
		return nil, nil, err
	}
	defer kc.Close()
	end, err := logEnd(ctx, kc, at.Topic)
	if err != nil {
		return nil, nil, err
	}
	from := map[int32]kgo.Offset{}
	for partition, e := range end {
		if e > 0 {
			from[partition] = kgo.NewOffset().At(0)
		}
	}
	kc.AddConsumePartitions(map[string]map[int32]kgo.Offset{at.Topic: from})
	read := map[int32][]trade.Record{}
	var unreadable error
	for len(from) > 0 && unreadable == nil {
		fetches := kc.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, nil, fmt.Errorf("cannot read topic %s: %w", at.Topic, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset >= end[rec.Partition] {
				return
			}
			record, err := kafka.Decode(rec)
			unreadable = errors.Join(unreadable, err)
			read[rec.Partition] = append(read[rec.Partition], record)
			if rec.Offset == end[rec.Partition]-1 {
				delete(from, rec.Partition)
			}
		})
	}
	if unreadable != nil {
		return nil, nil, unreadable
	}
	var log []trade.Record
	for _, partition := range slices.Sorted(maps.Keys(read)) {
		log = append(log, read[partition]...)
	}
	return log, end, nil
}

func (ev *Evidence) readTables(ctx context.Context, databaseURL string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("cannot read the tables: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for i := range ev.Earlier {
		if ev.Earlier[i].Next, err = readPositions(ctx, conn, i+1); err != nil {
			return err
		}
	}
	if ev.Next, err = readPositions(ctx, conn, len(ev.Earlier)+1); err != nil {
		return err
	}
	type reader func(context.Context, *pgx.Conn) error
	for _, read := range []reader{ev.readRows, ev.readJournal, ev.readOpened, ev.readLetters, ev.readAudit} {
		if err := read(ctx, conn); err != nil {
			return fmt.Errorf("cannot read the tables: %w", err)
		}
	}
	return nil
}

func readPositions(ctx context.Context, conn *pgx.Conn, generation int) (map[int32]int64, error) {
	next := map[int32]int64{}
	// its error comes with the rows
	rows, _ := conn.Query(ctx, `SELECT partition, next_offset FROM ingest_offsets WHERE generation = $1`, generation)
	var partition int32
	var offset int64
	_, err := pgx.ForEachRow(rows, []any{&partition, &offset}, func() error { next[partition] = offset; return nil })
	if err != nil {
		return nil, fmt.Errorf("cannot read positions: %w", err)
	}
	return next, nil
}

func (ev *Evidence) readRows(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT trade_id, version, counterparty_id, book_id, maturity_date, created_date,
		request_id::text, src_generation, src_partition, src_offset FROM trades`)
	ev.Rows = map[trade.Key]Row{}
	var r Row
	var id string
	var maturity, created time.Time
	_, err := pgx.ForEachRow(rows,
		[]any{&r.Trade.TradeID, &r.Trade.Version, &r.Trade.CounterpartyID, &r.Trade.BookID, &maturity, &created,
			&id, &r.Generation, &r.Slot.Partition, &r.Slot.Offset}, func() (err error) {
			r.Trade.MaturityDate, r.Trade.CreatedDate = trade.DateOf(maturity), trade.DateOf(created)
			r.RequestID, err = trade.ParseRequestID(id)
			ev.Rows[r.Trade.Key()] = r
			return err
		})
	return err
}

func (ev *Evidence) readJournal(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT request_id::text, outcome, coalesce(reason, ''), coalesce(trade_id, ''),
		coalesce(version, 0), coalesce(counterparty_id, ''), coalesce(book_id, ''),
		coalesce(maturity_date, 'epoch'), coalesce(created_date, 'epoch'),
		generation, partition, coalesce("offset", -1), accepted_at, coalesce(correlation_id, ''),
		CASE reason WHEN 'NOT_DELIVERED' THEN coalesce(substring(detail FROM 'offset ([0-9]+)')::bigint, -1) ELSE 0 END
		FROM journal`)
	var d Decision
	var id string
	var maturity, created time.Time
	_, err := pgx.ForEachRow(rows, []any{&id, &d.Status, &d.Reason, &d.Trade.TradeID, &d.Trade.Version,
		&d.Trade.CounterpartyID, &d.Trade.BookID, &maturity, &created,
		&d.Generation, &d.Slot.Partition, &d.Slot.Offset, &d.AcceptedAt, &d.CorrelationID, &d.ClosedAt}, func() (err error) {
		d.Trade.MaturityDate, d.Trade.CreatedDate = trade.DateOf(maturity), trade.DateOf(created)
		d.RequestID, err = trade.ParseRequestID(id)
		ev.Journal = append(ev.Journal, d)
		return err
	})
	return err
}

func (ev *Evidence) readOpened(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT request_id::text FROM requests`)
	ev.Opened = map[trade.RequestID]bool{}
	var text string
	_, err := pgx.ForEachRow(rows, []any{&text}, func() error {
		id, err := trade.ParseRequestID(text)
		ev.Opened[id] = true
		return err
	})
	return err
}

func (ev *Evidence) readLetters(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `SELECT partition, "offset", value, coalesce(request_id::text, '') FROM dead_letter
		WHERE topic_id = (SELECT topic_id FROM ingest_offsets ORDER BY generation DESC LIMIT 1)`)
	ev.Letters = map[Slot]Letter{}
	var slot Slot
	var value []byte
	var id string
	_, err := pgx.ForEachRow(rows, []any{&slot.Partition, &slot.Offset, &value, &id}, func() error {
		letter := Letter{Value: string(value)}
		if id != "" {
			var err error
			if letter.RequestID, err = trade.ParseRequestID(id); err != nil {
				return err
			}
		}
		ev.Letters[slot] = letter
		return nil
	})
	return err
}

// readAudit reads what the triggers kept; without them there is nothing to read.
func (ev *Evidence) readAudit(ctx context.Context, conn *pgx.Conn) error {
	var installed bool
	err := conn.QueryRow(ctx, `SELECT to_regclass('audit.steps') IS NOT NULL`).Scan(&installed)
	if err != nil || !installed {
		return err
	}
	rows, _ := conn.Query(ctx, `SELECT trade_id, tx, "order", generation, "offset" FROM audit.applied`)
	var a Applied
	_, err = pgx.ForEachRow(rows, []any{&a.TradeID, &a.Tx, &a.Order, &a.Generation, &a.Offset}, func() error {
		ev.Applied = append(ev.Applied, a)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range ev.Earlier {
		if ev.Earlier[i].Steps, err = readSteps(ctx, conn, i+1); err != nil {
			return err
		}
	}
	ev.Steps, err = readSteps(ctx, conn, len(ev.Earlier)+1)
	return err
}

func readSteps(ctx context.Context, conn *pgx.Conn, generation int) (map[int32][]Step, error) {
	rows, _ := conn.Query(ctx, `SELECT partition, "from", "to" FROM audit.steps WHERE generation = $1 ORDER BY "order"`,
		generation)
	steps := map[int32][]Step{}
	var partition int32
	var s Step
	_, err := pgx.ForEachRow(rows, []any{&partition, &s.From, &s.To}, func() error {
		steps[partition] = append(steps[partition], s)
		return nil
	})
	return steps, err
}
