package e2e

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Applied is one write of a row of trades, as a trigger saw it.
type Applied struct {
	TradeID    string
	Tx         int64 // the transaction; the rows of one are written in any order
	Order      int64
	Generation int32
	Offset     int64
}

// Step is one move of a partition's position, as a trigger saw it.
type Step struct{ From, To int64 }

// auditSchema keeps every write of trades and every move of a position that commits: what the tables alone no longer
// show. The triggers see the product's own statements and change nothing.
const auditSchema = `
CREATE SCHEMA IF NOT EXISTS audit;
CREATE TABLE IF NOT EXISTS audit.applied ("order" bigserial, tx bigint, trade_id text, generation int, "offset" bigint);
CREATE TABLE IF NOT EXISTS audit.steps ("order" bigserial, generation int, partition int, "from" bigint, "to" bigint);
CREATE OR REPLACE FUNCTION audit.applied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO audit.applied (tx, trade_id, generation, "offset")
	VALUES (pg_current_xact_id()::text::bigint, NEW.trade_id, NEW.src_generation, NEW.src_offset);
	RETURN NULL; END $$;
CREATE OR REPLACE FUNCTION audit.stepped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO audit.steps (generation, partition, "from", "to")
	VALUES (NEW.generation, NEW.partition, OLD.next_offset, NEW.next_offset);
	RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER audit AFTER INSERT OR UPDATE ON trades FOR EACH ROW EXECUTE FUNCTION audit.applied();
CREATE OR REPLACE TRIGGER audit AFTER UPDATE OF next_offset ON ingest_offsets
	FOR EACH ROW EXECUTE FUNCTION audit.stepped();`

// InstallAudit adds the audit triggers to a migrated database, before the first trade.
func InstallAudit(ctx context.Context, databaseURL string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("cannot install the audit triggers: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, auditSchema); err != nil {
		return fmt.Errorf("cannot install the audit triggers: %w", err)
	}
	return nil
}

// logPosition is where a record lies in the logs of all generations.
type logPosition struct {
	generation int32
	offset     int64
}

func (p logPosition) compare(q logPosition) int {
	return cmp.Or(cmp.Compare(p.generation, q.generation), cmp.Compare(p.offset, q.offset))
}

// checkAudit is I7 and I11 over time: per trade the applied places grow from transaction to transaction, and positions
// move forward from where they stood.
func checkAudit(r *Report, ev *Evidence) {
	applied := slices.Clone(ev.Applied)
	slices.SortFunc(applied, func(a, b Applied) int {
		return cmp.Or(cmp.Compare(a.TradeID, b.TradeID), cmp.Compare(a.Order, b.Order))
	})
	var tradeID string
	var tx int64
	var past, within logPosition // the last place of earlier transactions, and of this one
	for _, a := range applied {
		switch {
		case a.TradeID != tradeID:
			tradeID, tx, past, within = a.TradeID, a.Tx, logPosition{}, logPosition{}
		case a.Tx != tx:
			if past.compare(within) < 0 {
				past = within
			}
			tx, within = a.Tx, logPosition{}
		}
		here := logPosition{a.Generation, a.Offset}
		if within.compare(here) < 0 {
			within = here
		}
		if here.compare(past) <= 0 {
			r.add("I7", "trade %s: offset %d of generation %d was applied after offset %d of generation %d",
				a.TradeID, here.offset, here.generation, past.offset, past.generation)
		}
	}
	for i, g := range ev.generations() {
		checkSteps(r, i+1, g)
	}
}

func checkSteps(r *Report, generation int, g Generation) {
	for partition, steps := range g.Steps {
		at := int64(0)
		for _, s := range steps {
			if s.From != at || s.To <= s.From {
				r.add("I11", "partition %d of generation %d stood at %d and was moved from %d to %d",
					partition, generation, at, s.From, s.To)
			}
			at = s.To
		}
		if at != g.Next[partition] {
			r.add("I11", "the steps of partition %d of generation %d lead to %d, its position is %d",
				partition, generation, at, g.Next[partition])
		}
	}
}
