package dynamo

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// projectTries is how often one Project may send an outcome again. The caller repeats after that, and logs it.
const projectTries = 6

// Project stores the outcome of each request that is PENDING. It never changes a terminal status and never creates an
// item (rule S1), so anyone may repeat it, however late. A request that is absent or has another outcome is counted and
// is no error, because a repeat would not change it (rule S2). nil means that every other outcome is visible and
// durable. Otherwise the error is a *trade.NotProjected; what is left there was sent a few times, with backoff.
func (s *RequestStore) Project(ctx context.Context, outcomes []trade.Decision) error {
	p := projection{left: make([]*trade.Decision, len(outcomes))}
	for i := range outcomes {
		p.left[i] = &outcomes[i]
	}
	for try := 0; len(p.left) > 0; {
		now, later := oncePerRequest(p.left)
		sent := s.projectAll(ctx, now)
		p.taken += len(now) - len(sent.left) - len(sent.refused)
		p.left, p.cause = nil, nil
		p.add(sent)
		p.left = append(p.left, later...)
		if sent.cause == nil { // of a request with two outcomes the second one is sent now
			continue
		}
		if try == projectTries || resultOf(sent.cause) == refused || !pause(ctx, try) {
			break
		}
		try++
	}
	return p.err()
}

// projection is what became of outcomes that were sent. The others are taken: they are visible, or their request is not
// PENDING.
type projection struct {
	left    []*trade.Decision // may not be stored
	refused []*trade.Decision // can't be stored as their items are
	taken   int
	cause   error // of one of left
	refusal error // of one of refused
}

// add adds what became of other outcomes. A cause for which a repeat does not help comes first.
func (p *projection) add(o projection) {
	p.left, p.refused = append(p.left, o.left...), append(p.refused, o.refused...)
	if o.cause != nil && (p.cause == nil || resultOf(o.cause) == refused) {
		p.cause = o.cause
	}
	if p.refusal == nil {
		p.refusal = o.refusal
	}
}

// err returns what Project returns. If nothing was taken, the fault may be that of the table: then nothing counts as
// refused, so that the cursor waits.
func (p *projection) err() error {
	if len(p.left)+len(p.refused) == 0 {
		return nil
	}
	if p.taken == 0 {
		p.left, p.refused = append(p.left, p.refused...), nil
	}
	cause := p.cause
	if cause == nil {
		cause = p.refusal
	}
	return &trade.NotProjected{Refused: values(p.refused), Left: values(p.left), Err: cause}
}

func values(outcomes []*trade.Decision) []trade.Decision {
	all := make([]trade.Decision, len(outcomes))
	for i, o := range outcomes {
		all[i] = *o
	}
	return all
}

// oncePerRequest returns the first outcome of each request, and the others: DynamoDB refuses a call with the same key
// twice. A request has two outcomes only if a forged record had its id.
func oncePerRequest(outcomes []*trade.Decision) (now, later []*trade.Decision) {
	seen := make(map[trade.RequestID]bool, len(outcomes))
	now = make([]*trade.Decision, 0, len(outcomes))
	for _, o := range outcomes {
		if seen[o.ID] {
			later = append(later, o)
			continue
		}
		seen[o.ID] = true
		now = append(now, o)
	}
	return now, later
}

// projectAll sends each outcome once.
func (s *RequestStore) projectAll(ctx context.Context, outcomes []*trade.Decision) (all projection) {
	var mu sync.Mutex // protects all
	s.forEachBatch(len(outcomes), func(from, to int) {
		some := s.projectBatch(ctx, outcomes[from:to])
		mu.Lock()
		defer mu.Unlock()
		all.add(some)
	})
	return all
}

// projectBatch sends the outcomes of one call. If DynamoDB finds the call as a whole invalid, it may mean one of the
// statements: then each is sent by itself.
func (s *RequestStore) projectBatch(ctx context.Context, outcomes []*trade.Decision) (sent projection) {
	answers, err := s.execute(ctx, outcomes)
	switch {
	case err != nil && isInvalid(err) && len(outcomes) > 1:
		for i := range outcomes {
			sent.add(s.projectBatch(ctx, outcomes[i:i+1]))
		}
		return sent
	case err != nil && isInvalid(err):
		return projection{refused: outcomes, refusal: err}
	case err != nil:
		return projection{left: outcomes, cause: err}
	}
	for i, o := range outcomes {
		failed := answers[i].Error
		switch r := resultOfStatement(failed); {
		case r == done:
		case r == unmet:
			s.countUnmet(o, failed.Item)
		case failed.Code == types.BatchStatementErrorCodeEnumValidationError:
			sent.add(projection{refused: outcomes[i : i+1], refusal: &statementError{r, failed}})
		default:
			if r == throttled {
				s.metrics.throttled[opStatements].Inc()
			}
			sent.add(projection{left: outcomes[i : i+1], cause: &statementError{r, failed}})
		}
	}
	return sent
}

// execute makes one call, and returns one answer for each outcome.
func (s *RequestStore) execute(
	ctx context.Context, outcomes []*trade.Decision,
) ([]types.BatchStatementResponse, error) {
	statements := make([]types.BatchStatementRequest, len(outcomes))
	for i, o := range outcomes {
		statements[i] = s.projectStatement(o)
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.CallLimit)
	defer cancel()
	in := &dynamodb.BatchExecuteStatementInput{Statements: statements}
	out, err := call(limited, s, opStatements, in, s.client.BatchExecuteStatement)
	if resultOf(err) == throttled {
		s.metrics.throttled[opStatements].Add(float64(len(outcomes)))
	}
	if err == nil && len(out.Responses) != len(outcomes) {
		err = fmt.Errorf("DynamoDB answered %d of %d statements", len(out.Responses), len(outcomes))
	}
	if err != nil {
		return nil, err
	}
	return out.Responses, nil
}

// onlyPending is the condition of every write after the first (rule S1). An absent item has no status, so the condition
// does not hold and no item is created.
const onlyPending = ` REMOVE "` + attrPending + `"` +
	` WHERE "` + attrID + `" = ? AND "` + attrStatus + `" = '` + string(trade.Pending) + `'`

// projectStatement stores the outcome of a request. expires_at is set with it, never before (rule S3).
//
// 25 statements in one call are faster than one UpdateItem each: on DynamoDB Local, which is the limit there, 2,300
// instead of 1,000 outcomes a second, and 21 instead of 219 us of this process's CPU time per outcome
// (BenchmarkProject, two busy cores).
func (s *RequestStore) projectStatement(o *trade.Decision) types.BatchStatementRequest {
	set := `UPDATE "` + s.cfg.Table + `" SET "` + attrStatus + `" = ?` +
		` SET "` + attrDecidedAt + `" = ? SET "` + attrExpiresAt + `" = ?`
	decided := o.DecidedAt
	if decided.Before(o.AcceptedAt) { // by a worker whose clock is behind, which must not shorten the life (rule T11)
		decided = o.AcceptedAt
	}
	expires := decided.Add(s.cfg.Life).Unix()
	values := []types.AttributeValue{text(string(o.Status)), instant(o.DecidedAt), number(expires)}
	if o.Status == trade.Failed {
		set += ` SET "` + attrReason + `" = ? SET "` + attrDetail + `" = ?`
		values = append(values, text(string(o.Reason)), text(o.Detail))
	}
	return types.BatchStatementRequest{
		Statement:                           aws.String(set + onlyPending),
		Parameters:                          append(values, text(o.ID.String())),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// countUnmet counts an outcome whose condition did not hold, by the item that was found (rule S2).
func (s *RequestStore) countUnmet(o *trade.Decision, item attributes) {
	status := (&reader{item: item}).optional(attrStatus)
	reason := (&reader{item: item}).optional(attrReason)
	switch {
	case len(item) == 0:
		s.metrics.unmet[foundMissing].Inc()
	case status == string(o.Status) && reason == string(o.Reason):
		s.metrics.unmet[foundSame].Inc()
	default:
		s.metrics.unmet[foundConflict].Inc()
		s.log.Error().Stringer("request_id", o.ID).Str("correlation_id", o.CorrelationID).
			Func(telemetry.Traced(o.TraceParent)).
			Str("decided", string(o.Status)).Str("decided_reason", string(o.Reason)).
			Str("found", status).Str("found_reason", reason).
			Int32("partition", o.Partition).Int64("offset", o.Offset).
			Msg("the request store has another outcome than the journal; it stays as it is")
	}
}
