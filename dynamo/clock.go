package dynamo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"tradestore/trade"
)

// tableClock follows the clock of DynamoDB, by the header Date of its answers. Its methods may be called concurrently.
type tableClock struct{ last atomic.Pointer[reading] }

// reading is what the clock of DynamoDB said, and when.
type reading struct{ date, at time.Time }

func (c *tableClock) note(h http.Header) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		c.last.Store(&reading{date, time.Now()})
	}
}

// earlier returns own, or the time of DynamoDB if that is earlier: a process whose clock jumps ahead must not take
// items for expired, or give their keys away (rule T11).
func (c *tableClock) earlier(own time.Time) time.Time {
	last := c.last.Load()
	if last == nil {
		return own
	}
	if theirs := last.date.Add(time.Since(last.at)); theirs.Before(own) {
		return theirs
	}
	return own
}

// now is the time by which items expire.
func (s *RequestStore) now() time.Time { return s.transport.clock.earlier(s.cfg.Now()) }

var errNoDate = errors.New("the answer of DynamoDB has no Date")

// Clock returns the time of the clock of DynamoDB, to half a second.
func (s *RequestStore) Clock(ctx context.Context) (time.Time, error) {
	out, err := call(ctx, s, opGet, &dynamodb.GetItemInput{ // of an item that no request can have, as Ping
		TableName: aws.String(s.cfg.Table),
		Key:       attributes{attrID: text(trade.RequestID{}.String())},
	}, s.client.GetItem, s.retry)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot read table %s: %w", s.cfg.Table, err)
	}
	date, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return time.Time{}, errNoDate
	}
	return date.Add(time.Second / 2), nil // the header has whole seconds
}
