package server

import (
	"context"
	"errors"
	"time"

	"tradestore/trade"
)

// anonymous is the principal that every key belongs to: there is no authentication yet.
const anonymous = ""

var errOneKey = errors.New("send Idempotency-Key once")

// keyed is what a submission under an idempotency key has beside its request.
type keyed struct {
	key     trade.IdempotencyKey
	hash    trade.PayloadHash
	matured *trade.Invalid // the refusal by its date, held back until the key is known to be free (rule K2b)
	free    bool           // its attempt has no entry
	attempt int            // that the id of the request was derived for
}

// key returns the idempotency key of the request, empty if it has none.
func (h *head) key() (trade.IdempotencyKey, error) {
	switch h.idempotencyKeys {
	case 0:
		return "", nil
	case 1:
		return trade.ParseIdempotencyKey(h.idempotencyKey)
	}
	return "", errOneKey
}

func splitByKey(batch []*pendingPost) (plain, keyed []*pendingPost) {
	plain = make([]*pendingPost, 0, len(batch))
	for _, s := range batch {
		if s.keyed == nil {
			plain = append(plain, s)
		} else {
			keyed = append(keyed, s)
		}
	}
	return plain, keyed
}

// withFreeKeys answers the submissions whose key has an entry, and returns the others with the id of the first attempt
// that has none, in their order. An attempt that was not delivered has had no effect, so it is passed over (rule K3).
// Nothing has been stored by then: a submission that is answered or given up here leaves no trace under its key (rule K4).
//
// The id may be written without a lock: until the stage is left by compare-and-swap, no one else reads it.
func (b *batcher) withFreeKeys(batch []*pendingPost) (free []*pendingPost) {
	b.seekFreeKeys(batch)
	for _, s := range batch {
		if s.keyed.free {
			free = append(free, s)
		}
	}
	return free
}

func (b *batcher) seekFreeKeys(batch []*pendingPost) {
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.OpenTimeout)
	defer cancel()
	for attempt := 0; len(batch) > 0; attempt++ {
		if attempt == b.cfg.IdempotencyAttempts {
			for _, s := range batch {
				b.replyKeyed(s, keyExhausted, answer{code: IdempotencyKeyExhausted,
					detail: "no attempt reached the log, and none had an effect: use another key; the setting idempotency-attempts limits them"})
			}
			return
		}
		ids := make([]trade.RequestID, len(batch))
		for i, s := range batch {
			s.keyed.attempt, s.req.ID = attempt, trade.DeriveRequestID(anonymous, s.keyed.key, attempt)
			ids[i] = s.req.ID
		}
		start := time.Now()
		states, err := b.keys.GetKeyed(ctx, ids)
		b.traceStage(batch, spanKeys, start, func(int) error { return err })
		if err != nil {
			b.log.Warn().Err(err).Int("requests", len(batch)).Msg("cannot read idempotency keys")
			for _, s := range batch {
				b.reply(s, answer{code: RequestStoreUnavailable})
			}
			return
		}
		var passedOver []*pendingPost
		for _, s := range batch {
			switch state, found := states[s.req.ID]; {
			case found && state.Hash == s.keyed.hash && state.Reason == trade.NotDelivered:
				passedOver = append(passedOver, s)
			case found:
				b.answerKnown(s, state)
			case s.keyed.matured != nil:
				b.reply(s, answer{code: s.keyed.matured.Code})
			default:
				s.keyed.free = true
			}
		}
		batch = passedOver
	}
}

// answerKnown answers a submission whose key has an entry (rule K2). While that is PENDING its record may be on its way to
// the log or not, so another 202 could lie.
func (b *batcher) answerKnown(s *pendingPost, state trade.KeyedState) {
	switch {
	case state.Hash != s.keyed.hash:
		b.replyKeyed(s, keyReused, answer{code: IdempotencyKeyReused, detail: "an earlier request under this key had other fields"})
	case !state.Status.Terminal():
		b.replyKeyed(s, keyInProgress, answer{code: RequestInProgress})
	default:
		b.replyKeyed(s, keyReplayed, answer{replayed: true})
	}
}

// openKeyed sends PENDING for submissions whose keys were free.
func (b *batcher) openKeyed(batch []*pendingPost) []error {
	requests := make([]*trade.KeyedRequest, len(batch))
	for i, s := range batch {
		requests[i] = &trade.KeyedRequest{Request: &s.req, Hash: s.keyed.hash, Nonce: trade.NewNonce()}
	}
	errs := b.timedOpen(batch, func(ctx context.Context) []error { return b.keys.OpenKeyed(ctx, requests) })
	for i, s := range batch {
		if errOf(errs, i) != nil {
			continue
		}
		if s.keyed.attempt == 0 {
			b.m.keyed[keyOpened].Inc()
		} else {
			b.m.keyed[keyReopened].Inc()
		}
	}
	return errs
}

// settleKeyed answers s and counts what its key led to.
func (b *batcher) replyKeyed(s *pendingPost, result string, a answer) {
	b.m.keyed[result].Inc()
	b.reply(s, a)
}
