package loadtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lag measures from outside how many records are not applied yet: the end offsets in Kafka minus the positions in
// PostgreSQL, or minus the offsets of the consumer group, which follow them.
type lag struct {
	client   *kgo.Client
	admin    *kadm.Client
	database *pgxpool.Pool // nil: use the group
	topic    string
	group    string
}

// openLag connects lazily: a store that is down is an error of the read. databaseURL may be empty. Errors: an invalid
// address.
func openLag(ctx context.Context, brokers []string, topic, group, databaseURL string) (*lag, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("tradestore-loadtest"))
	if err != nil {
		return nil, fmt.Errorf("cannot use the Kafka brokers (--kafka-brokers): %w", err)
	}
	l := &lag{client: client, admin: kadm.NewClient(client), topic: topic, group: group}
	if databaseURL == "" {
		return l, nil
	}
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot read --database-url: %w", err)
	}
	config.MaxConns = 1
	config.ConnConfig.RuntimeParams["application_name"] = "tradestore-loadtest"
	if l.database, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot use the database (--database-url): %w", err)
	}
	return l, nil
}

func (l *lag) close() {
	l.admin.Close()
	if l.database != nil {
		l.database.Close()
	}
}

func (l *lag) source() Source {
	return Source{Name: "lag", Read: func(ctx context.Context) ([]Reading, error) {
		// Positions first: both only grow, so the lag may be too large but never too small.
		positions, err := l.positions(ctx)
		if err != nil {
			return nil, err
		}
		ends, err := l.admin.ListEndOffsets(ctx, l.topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the ends of topic %s: %w", l.topic, err)
		}
		behind := int64(0)
		ends.Each(func(end kadm.ListedOffset) { behind += max(0, end.Offset-positions[end.Partition]) })
		return []Reading{{Name: lagSeries, Group: groupLag, Unit: "records", Value: float64(behind)}}, nil
	}}
}

// positions returns the next offset to apply by partition.
func (l *lag) positions(ctx context.Context) (map[int32]int64, error) {
	positions := map[int32]int64{}
	if l.database == nil {
		offsets, err := l.admin.FetchOffsetsForTopics(ctx, l.group, l.topic)
		if err != nil {
			return nil, fmt.Errorf("cannot read the offsets of group %s: %w", l.group, err)
		}
		offsets.Each(func(o kadm.OffsetResponse) { positions[o.Partition] = max(0, o.At) })
		return positions, nil
	}
	rows, _ := l.database.Query(ctx, `SELECT partition, next_offset FROM ingest_offsets
		WHERE topic = $1 AND generation = (SELECT max(generation) FROM ingest_offsets WHERE topic = $1)`, l.topic)
	var partition int32
	var next int64
	_, err := pgx.ForEachRow(rows, []any{&partition, &next}, func() error { positions[partition] = next; return nil })
	if err != nil {
		return nil, fmt.Errorf("cannot read the positions: %w", err)
	}
	return positions, nil
}
