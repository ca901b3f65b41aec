package dynamo

import (
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"tradestore/trade"
)

// Attributes of an item. A request id is the whole key.
const (
	attrID            = "request_id"
	attrStatus        = "status"
	attrTradeID       = "trade_id"
	attrVersion       = "version"
	attrPartition     = "partition"
	attrAcceptedAt    = "accepted_at" // RFC 3339, UTC, six decimals: it sorts like the instant
	attrCorrelationID = "correlation_id"
	attrTraceParent   = "traceparent"
	attrReplayOf      = "replay_of"
	attrDecidedAt     = "decided_at" // this one and the next three only with a terminal status
	attrReason        = "reason"
	attrDetail        = "detail"
	attrExpiresAt     = "expires_at"   // seconds since 1970; the table deletes the item some time later (rule S3)
	attrHash          = "payload_hash" // this one and the next only under an idempotency key
	attrNonce         = "nonce"        // of the call that opened the request
	attrPending       = "pending"      // only while PENDING, so that its index has no other items
)

const timeLayout = "2006-01-02T15:04:05.000000Z"

// pendingShards is the number of keys of the index of PENDING items. One key takes 1,000 writes a second, and each
// request writes twice: when it is opened and when it is projected. If the index is too slow, the table refuses writes
// as well.
const pendingShards = 32

// attributes is an item in the form of the AWS client.
type attributes = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func instant(t time.Time) types.AttributeValue { return text(t.UTC().Format(timeLayout)) }

// pendingItem returns the item that opens a request.
func pendingItem(r *trade.Request) attributes {
	item := attributes{
		attrID:         text(r.ID.String()),
		attrStatus:     text(string(trade.Pending)),
		attrTradeID:    text(r.Trade.TradeID),
		attrVersion:    number(int64(r.Trade.Version)),
		attrPartition:  number(int64(r.Partition)),
		attrAcceptedAt: instant(r.AcceptedAt),
		attrPending:    text(shard(int(r.ID[len(r.ID)-1]) % pendingShards)),
	}
	if r.CorrelationID != "" {
		item[attrCorrelationID] = text(r.CorrelationID)
	}
	if r.TraceParent != "" {
		item[attrTraceParent] = text(r.TraceParent)
	}
	if !r.ReplayOf.IsZero() {
		item[attrReplayOf] = text(r.ReplayOf.String())
	}
	return item
}

// shard returns the key of one shard of the index. The last byte of an id is random, so all shards have the same size.
func shard(n int) string { return "pending-" + strconv.Itoa(n) }

// reader reads values of an item and keeps the first error. Only Trade Store should write the table, but anyone with
// rights in the account can.
type reader struct {
	item attributes
	err  error
}

func (r *reader) fail(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("attribute %s is missing or not what it should be", name)
	}
}

// optional returns the text of an attribute, empty if it is absent.
func (r *reader) optional(name string) string {
	v, ok := r.item[name]
	if !ok {
		return ""
	}
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok {
		r.fail(name)
		return ""
	}
	return s.Value
}

func (r *reader) text(name string) string {
	s := r.optional(name)
	if s == "" {
		r.fail(name)
	}
	return s
}

func (r *reader) number(name string, bits int) int64 {
	if v, ok := r.item[name].(*types.AttributeValueMemberN); ok {
		if n, err := strconv.ParseInt(v.Value, 10, bits); err == nil {
			return n
		}
	}
	r.fail(name)
	return 0
}

func (r *reader) instant(name string) time.Time {
	t, err := time.Parse(timeLayout, r.text(name))
	if err != nil {
		r.fail(name)
	}
	return t
}

func (r *reader) id(name string) trade.RequestID {
	id, err := trade.ParseRequestID(r.text(name))
	if err != nil {
		r.fail(name)
	}
	return id
}

// stateOf returns the state of a request as clients see it.
func stateOf(item attributes) (trade.RequestState, error) {
	r := &reader{item: item}
	s := trade.RequestState{
		ID:         r.id(attrID),
		Status:     trade.Status(r.text(attrStatus)),
		TradeID:    r.text(attrTradeID),
		Version:    int32(r.number(attrVersion, 32)),
		Reason:     trade.Code(r.optional(attrReason)),
		Detail:     r.optional(attrDetail),
		AcceptedAt: r.instant(attrAcceptedAt),
	}
	if s.Status.Terminal() {
		s.DecidedAt = r.instant(attrDecidedAt)
	} else if s.Status != trade.Pending {
		r.fail(attrStatus)
	}
	return s, r.err
}

// expired says whether an item is expired at the instant now. The table may not have deleted it yet.
func expired(item attributes, now time.Time) bool {
	if _, ok := item[attrExpiresAt]; !ok {
		return false
	}
	r := &reader{item: item}
	return r.number(attrExpiresAt, 64) <= now.Unix() && r.err == nil
}
