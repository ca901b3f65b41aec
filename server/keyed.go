package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tradestore/trade"
)

// anonymous is the principal that every key belongs to: there is no authentication yet.
const anonymous = ""

var errOneKey = errors.New("send Idempotency-Key once")

// keyed is the part of a post under an idempotency key.
type keyed struct {
	key     trade.IdempotencyKey
	hash    trade.PayloadHash
	matured *trade.Invalid // the refusal by its date, sent only if the key is free (rule K2b)
	free    bool           // the attempt has no entry
	attempt int            // the id of the request is derived from it
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
	for _, post := range batch {
		if post.keyed == nil {
			plain = append(plain, post)
		} else {
			keyed = append(keyed, post)
		}
	}
	return plain, keyed
}

// withFreeKeys answers the posts whose key has an entry. It returns the others in their order, with the id of the first
// attempt that has no entry. An attempt that ended NOT_DELIVERED had no effect and is passed over (rule K3). Nothing is
// stored before: a post that is answered or given up here leaves no trace under its key (rule K4).
//
// The id is written without a lock: nobody else reads it until the stage is left by compare-and-swap.
func (f *flusher) withFreeKeys(batch []*pendingPost) (free []*pendingPost) {
	f.findFreeKeys(batch)
	for _, post := range batch {
		if post.keyed.free {
			free = append(free, post)
		}
	}
	return free
}

func (f *flusher) findFreeKeys(batch []*pendingPost) {
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.OpenTimeout)
	defer cancel()
	for attempt := 0; len(batch) > 0; attempt++ {
		if attempt == f.cfg.IdempotencyAttempts {
			detail := fmt.Sprintf("all %d attempts under the key ended NOT_DELIVERED, none had an effect: use another key",
				attempt)
			for _, post := range batch {
				f.replyKeyed(post, keyExhausted, answer{code: IdempotencyKeyExhausted, detail: detail})
			}
			return
		}
		ids := make([]trade.RequestID, len(batch))
		for i, post := range batch {
			post.keyed.attempt, post.req.ID = attempt, trade.DeriveRequestID(anonymous, post.keyed.key, attempt)
			ids[i] = post.req.ID
		}
		start := time.Now()
		states, err := f.keys.GetKeyed(ctx, ids)
		f.observe.keysRead(batch, start, err)
		if err != nil {
			f.log.Warn().Err(err).Int("requests", len(batch)).Msg("cannot read idempotency keys")
			for _, post := range batch {
				f.reply(post, answer{code: RequestStoreUnavailable})
			}
			return
		}
		var passedOver []*pendingPost
		for _, post := range batch {
			switch state, found := states[post.req.ID]; {
			case found && state.Hash == post.keyed.hash && state.Reason == trade.NotDelivered:
				passedOver = append(passedOver, post)
			case found:
				f.replyKnown(post, state)
			case post.keyed.matured != nil:
				f.reply(post, answer{code: post.keyed.matured.Code})
			default:
				post.keyed.free = true
			}
		}
		batch = passedOver
	}
}

// replyKnown answers a post whose key has an entry (rule K2). While the entry is PENDING, nobody knows whether its
// record reached the log, so another 202 could lie.
func (f *flusher) replyKnown(post *pendingPost, state trade.KeyedState) {
	switch {
	case state.Hash != post.keyed.hash:
		const detail = "an earlier request under this key had other fields"
		f.replyKeyed(post, keyReused, answer{code: IdempotencyKeyReused, detail: detail})
	case !state.Status.Terminal():
		f.replyKeyed(post, keyInProgress, answer{code: RequestInProgress})
	default:
		f.replyKeyed(post, keyReplayed, answer{replayed: true})
	}
}

// openKeyed sends PENDING for posts whose keys were free.
func (f *flusher) openKeyed(batch []*pendingPost) []error {
	requests := make([]*trade.KeyedRequest, len(batch))
	for i, post := range batch {
		requests[i] = &trade.KeyedRequest{Request: &post.req, Hash: post.keyed.hash, Nonce: trade.NewNonce()}
	}
	errs := f.limitedOpen(batch, func(ctx context.Context) []error { return f.keys.OpenKeyed(ctx, requests) })
	for i, post := range batch {
		if errAt(errs, i) != nil {
			continue
		}
		if post.keyed.attempt == 0 {
			f.observe.m.keyed[keyOpened].Inc()
		} else {
			f.observe.m.keyed[keyReopened].Inc()
		}
	}
	return errs
}

// replyKeyed answers a post and counts what its key led to.
func (f *flusher) replyKeyed(post *pendingPost, result string, a answer) {
	f.observe.m.keyed[result].Inc()
	f.reply(post, a)
}
