package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
// durable. After an error some may not be; Project has sent them a few times, with backoff.
func (s *RequestStore) Project(ctx context.Context, outcomes []trade.Decision) error {
	left := make([]*trade.Decision, len(outcomes))
	for i := range outcomes {
		left[i] = &outcomes[i]
	}
	for try := 0; ; {
		now, later := oncePerRequest(left)
		failed, err := s.projectAll(ctx, now)
		left = slices.Concat(failed, later)
		switch {
		case len(left) == 0:
			return nil
		case err == nil: // a request with two outcomes: now send the second one
			continue
		case try == projectTries || !repeatable(err) || !pause(ctx, try):
			return fmt.Errorf("cannot project %d of %d outcomes: %w", len(left), len(outcomes), err)
		}
		try++
	}
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

// statementError is the error of one statement of a batch.
type statementError struct {
	result result
	text   string
}

func (e *statementError) Error() string { return e.text }

// repeatable says whether a repeat may help. The first try may have taken effect: the condition makes a repeat
// harmless.
func repeatable(err error) bool {
	var s *statementError
	r := resultOf(err)
	if errors.As(err, &s) {
		r = s.result
	}
	return r != refused
}

// projectAll sends each outcome once. It returns those that may not be projected, and the error of one of them; an
// error that can't be repeated comes first.
func (s *RequestStore) projectAll(
	ctx context.Context, outcomes []*trade.Decision,
) (failed []*trade.Decision, cause error) {
	var mu sync.Mutex // protects the results
	s.forEachBatch(len(outcomes), func(from, to int) {
		some, err := s.projectBatch(ctx, outcomes[from:to])
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, some...)
		if err != nil && (cause == nil || !repeatable(err)) {
			cause = err
		}
	})
	return failed, cause
}

// projectBatch sends the outcomes of one call.
func (s *RequestStore) projectBatch(
	ctx context.Context, outcomes []*trade.Decision,
) (failed []*trade.Decision, cause error) {
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
	if err != nil {
		return outcomes, err
	}
	if len(out.Responses) != len(outcomes) {
		return outcomes, fmt.Errorf("DynamoDB answered %d of %d statements", len(out.Responses), len(outcomes))
	}
	for i, o := range outcomes {
		answer := &out.Responses[i]
		switch r := resultOfStatement(answer.Error); r {
		case done:
		case unmet:
			s.countUnmet(o, answer.Error.Item)
		case throttled:
			s.metrics.throttled[opStatements].Inc()
			fallthrough
		default:
			failed = append(failed, o)
			if cause == nil || r == refused {
				cause = &statementError{r, fmt.Sprintf("%s: %s", answer.Error.Code, aws.ToString(answer.Error.Message))}
			}
		}
	}
	return failed, cause
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
